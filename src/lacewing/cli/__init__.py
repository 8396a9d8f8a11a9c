"""The command ``lacewing``: parse arguments, call the library, print, exit.

The modules of commands import the library inside their functions, so that ``lacewing --help`` stays quick.
"""

from lacewing.cli._app import app as app
from lacewing.cli._main import main as main
