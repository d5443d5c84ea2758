"""What has to be mended in viser's browser client for a scene made of pixel-sized splats."""

from __future__ import annotations

from worldstereo_cli.errors import BackendError

_HEAD = "<head>"

_CLASSIC_WORKERS = """
if (location.protocol === "file:") {
  const NativeBlob = window.Blob, NativeWorker = window.Worker;
  const script = (part) =>
    typeof part === "string" ? part.replaceAll("import.meta.url", "self.location.href") : part;
  window.Blob = class extends NativeBlob {
    constructor(parts, options) {
      super(options?.type?.startsWith("text/javascript") ? parts.map(script) : parts, options);
    }
  };
  window.Worker = class extends NativeWorker {
    constructor(address, options) {
      super(address, { ...options, type: "classic" });
    }
  };
}"""
"""Chromium refuses to start a module worker for a page that lies on disk, and viser sorts splats in one:
unsorted, far surfaces are drawn over near ones as soon as the view moves. The worker is a single script
that only asks for its own address, so it runs as a classic worker, which is allowed."""

_SMALL_SPLATS = """
{
  const prototype = WebGL2RenderingContext.prototype, compile = prototype.shaderSource;
  prototype.shaderSource = function (shader, source) {
    compile.call(this, shader, source.replace("weightedDeterminant < 0.25", "weightedDeterminant <= 0.0"));
  };
}"""
"""viser leaves out splats narrower than about 0.45 px. One splat for each pixel of a photo is narrower
than that in a small window or from farther off, and then the whole scene disappears."""


def mended_client(page: str, extra_head: str = "") -> str:
    """Return a page of viser's client with the repairs in front of everything else it runs.

    Args:
        page: The client's HTML, with or without an embedded scene.
        extra_head: HTML that goes before the repairs.

    Raises:
        BackendError: The page has no head where it is expected.
    """
    if page.count(_HEAD) != 1:
        raise BackendError(
            f"This version of viser writes pages without one {_HEAD}.", remedy="pip install 'viser>=1.1,<2'"
        )
    return page.replace(_HEAD, f"{_HEAD}{extra_head}<script>{_CLASSIC_WORKERS}{_SMALL_SPLATS}\n</script>")
