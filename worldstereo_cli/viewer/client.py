"""What has to be mended in viser's browser client for a scene made of pixel-sized splats."""

from __future__ import annotations

import html
import json

from worldstereo_cli.errors import BackendError

_HEAD = "<head>"
_TITLE = "<title>Viser</title>"

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

_SHADER_REPAIRS = {
    # viser leaves out splats narrower than about 0.45 px. One splat for each pixel of a photo is narrower
    # than that in a small window or from farther off, and then the whole scene disappears.
    "weightedDeterminant < 0.25": "weightedDeterminant <= 0.0",
    # Splats are fitted under a blur of 0.3 px^2, which they bring with them here (`live._widened`), so that
    # they stay closed when they are magnified. viser's own blur is added to what is narrower only.
    "float diag1 = cov_proj[0][0] + 0.3;": (
        "float widening = max(0.0, 0.3 - 0.5 * (cov_proj[0][0] + cov_proj[1][1])"
        " + length(vec2(0.5 * (cov_proj[0][0] - cov_proj[1][1]), cov_proj[0][1])));"
        " float diag1 = cov_proj[0][0] + widening;"
    ),
    "cov_proj[1][1] + 0.3;": "cov_proj[1][1] + widening;",
}

_SHADERS = f"""
{{
  const prototype = WebGL2RenderingContext.prototype, compile = prototype.shaderSource;
  const repairs = Object.entries({json.dumps(_SHADER_REPAIRS)});
  prototype.shaderSource = function (shader, source) {{
    compile.call(this, shader, repairs.reduce((text, [old, mended]) => text.replace(old, mended), source));
  }};
}}"""


def mended_client(page: str, title: str, extra_head: str = "", overlay: str = "") -> str:
    """Return a page of viser's client with a title, and with the repairs in front of all that it runs.

    Args:
        page: The client's HTML, with or without an embedded scene.
        title: The scene's name, for the browser's tab.
        extra_head: HTML that goes before the repairs.
        overlay: HTML of the head that puts something over the picture.

    Raises:
        BackendError: The page has no head or title where they are expected.
    """
    for tag in (_HEAD, _TITLE):
        if page.count(tag) != 1:
            raise BackendError(
                f"This version of viser writes pages without one {tag}.", remedy="pip install 'viser>=1.1,<2'"
            )
    named = page.replace(_TITLE, f"<title>{html.escape(title)} - worldstereo</title>")
    repairs = f"<script>{_CLASSIC_WORKERS}{_SHADERS}\n</script>"
    return named.replace(_HEAD, f"{_HEAD}{extra_head}{repairs}{overlay}")
