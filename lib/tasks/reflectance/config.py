"""What a sample of this task is: the ten channels, the picture, and the parameters of a simulated scale."""

from __future__ import annotations

CHANNELS = ("UV", "B", "G", "R", "740", "940", "fB", "fG", "fR", "poldiff")  # the original's names, in its order
REFLECTED = CHANNELS[:6]  # reflectance in a band
FLUORESCENT = CHANNELS[6:9]  # light emitted in B, G and R under ultraviolet
TRUE = "true_"  # in front of a channel's name: the column of what was measured or simulated, as a fraction 0 to 1
CENTRE_NM = {"UV": 365.0, "B": 450.0, "G": 530.0, "R": 630.0, "740": 740.0, "940": 940.0}

IMAGE_PX = 256  # the side of the picture that a network sees
COMMON_NM_PER_PX = 25.0  # the scale it is brought to where the file's own is known: a field of 6.4 µm

# What a micrograph shows of a scale, and what it hides.
VISIBLE = (
    "ridge_period_nm", "ridge_width_nm", "ridge_height_nm", "rib_period_nm", "rib_width_nm", "window_fill", "bead_density",
    "n_shelves",
)  # fmt: skip
HIDDEN = ("lamina_nm", "air_gap_nm", "melanin", "pigment_k", "quantum_yield", "ground_cover")
