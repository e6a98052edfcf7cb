"""The explorer: one page in which a person points at any patch and sees what it attends to, in every layer and head.

`payload` holds what one page shows, `choice` says which rows fit into it, `document` writes the page. The page itself
is one ES module without dependencies, in the folder `page`, with three hosts: a file, and those of the folder `live`, a
local page and a notebook, in which the model computes the rows that are looked at.
"""
