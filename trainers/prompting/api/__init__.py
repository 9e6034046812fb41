"""Use from Python without Dassl: `PromptClassifier`, its recipes, images of any kind, and prediction."""
