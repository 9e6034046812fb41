"""Use from Python without Dassl: `PromptClassifier`, its files, images of any kind."""
