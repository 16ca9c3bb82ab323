"""The page: a run's record as sections of a document, shown by one front end in a file, live, or in a notebook."""

from neural_plasticity.render.page.single_file import PAGE_NAME, read_page, render_page, write_page

__all__ = ["PAGE_NAME", "read_page", "render_page", "write_page"]
