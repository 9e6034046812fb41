"""Sentences for a class, with `{}` for its name; the order of several means nothing, since features are averaged."""

DEFAULT = "a photo of a {}."
# CoOp's, by registered data-set name, where it is not the default.
BY_DATASET = {
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "Food101": "a photo of {}, a type of food.",
    "UCF101": "a photo of a person doing {}.",
}

# The seven that OpenAI selected for ImageNet.
SELECTED = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
# Of the eighty that OpenAI published for ImageNet, the sixty that PromptSRC's teacher is made of.
SELF_REGULATION = (
    "a bad photo of a {}.",
    "a bad photo of the {}.",
    "a black and white photo of the {}.",
    "a blurry photo of a {}.",
    "a blurry photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a cartoon {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a cropped photo of a {}.",
    "a cropped photo of the {}.",
    "a dark photo of the {}.",
    "a doodle of a {}.",
    "a doodle of the {}.",
    "a drawing of a {}.",
    "a embroidered {}.",
    "a good photo of the {}.",
    "a jpeg corrupted photo of a {}.",
    "a low resolution photo of a {}.",
    "a low resolution photo of the {}.",
    "a origami {}.",
    "a painting of a {}.",
    "a painting of the {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a photo of a hard to see {}.",
    "a photo of a large {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a photo of a {}.",
    "a photo of many {}.",
    "a photo of my {}.",
    "a photo of one {}.",
    "a photo of the clean {}.",
    "a photo of the cool {}.",
    "a photo of the dirty {}.",
    "a photo of the hard to see {}.",
    "a photo of the {}.",
    "a pixelated photo of a {}.",
    "a pixelated photo of the {}.",
    "a plastic {}.",
    "a rendering of a {}.",
    "a rendering of the {}.",
    "a rendition of a {}.",
    "a rendition of the {}.",
    "a sculpture of a {}.",
    "a sculpture of the {}.",
    "a sketch of a {}.",
    "a sketch of the {}.",
    "a tattoo of a {}.",
    "a {} in a video game.",
    "art of a {}.",
    "graffiti of a {}.",
    "itap of the {}.",
    "the embroidered {}.",
    "the origami {}.",
    "the plastic {}.",
    "the toy {}.",
    "the {} in a video game.",
)


def template_of(dataset: str) -> str:
    """The sentence of a data set's classes, by its registered name."""
    return BY_DATASET.get(dataset, DEFAULT)
