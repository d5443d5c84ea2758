"""The one way to import Open3D."""

from __future__ import annotations

import ctypes
import importlib.util
from types import ModuleType

from worldstereo_cli.errors import BackendError


def import_open3d() -> ModuleType:
    """Import Open3D on a machine that may lack libusb.

    Its Linux wheel links against libusb-1.0, which bare machines do not have; the wheel
    `libusb-package` carries one, and a library that is loaded globally is found.

    Raises:
        BackendError: Open3D is missing or does not load.
    """
    try:
        if importlib.util.find_spec("libusb_package") is not None:
            import libusb_package

            library = libusb_package.get_library_path()
            if library is not None:
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        import open3d
    except (ImportError, OSError) as error:
        raise BackendError(
            f"Open3D does not load: {error}", remedy="pip install --force-reinstall open3d libusb-package"
        ) from error
    module: ModuleType = open3d
    return module
