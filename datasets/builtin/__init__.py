"""Built-in data sets, written as ordinary image files with a split JSON in CoOp's layout."""
