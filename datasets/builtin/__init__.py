"""Data sets that this project writes itself, as ordinary image files with a split JSON in CoOp's layout."""
