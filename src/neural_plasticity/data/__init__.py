"""Text and token blocks: what models are trained, scored and evaluated on."""
