"""The playground: a page in the browser that shows all models as they run, and lets one try things on them."""
