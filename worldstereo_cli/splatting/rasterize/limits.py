"""The constants of splat compositing, the same in every rasteriser here.

They are those of gsplat's "classic" mode, which viewers in the field follow, so that a file looks
the same elsewhere as it did while it was fitted.

Source: Kerbl et al. 2023, section 4 and its released rasteriser; gsplat 1.5 (Apache-2.0), the same
values in its documentation of `rasterization`.
"""

DILATION_PX2 = 0.3
"""Added to the variance of every projected splat, so that none falls between pixel centres."""
NEAR_M = 0.01
"""Splats whose centre is nearer than this, or behind the camera, are not drawn."""
MIN_ALPHA = 1 / 255
"""A splat does not touch pixels where its alpha is below what eight bits can show."""
MAX_ALPHA = 0.999
"""Alpha is cut here, so that the gradient through what lies behind stays finite."""
MIN_TRANSMITTANCE = 1e-4
"""A pixel is finished when less light than this would come from behind."""
FRUSTUM_MARGIN = 0.3
"""The projection is linearised no further outside the image than this share of the half field of
view; beyond, the linearisation would stretch splats across the picture."""
