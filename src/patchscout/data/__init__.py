"""From files on disk to images, masks, splits and augmentations; and a sample made at run time."""
