"""Build the asset pack of the scene generator from unpacked software packages.

`selection.json` names every file, author and licence that may be used: public domain, CC0 and CC-BY
alone. `obj.py` reads and thins meshes, `pictures.py` cuts textures and panoramas, `pack.py` holds the
file format and the credits, `command.py` puts them together.
"""
