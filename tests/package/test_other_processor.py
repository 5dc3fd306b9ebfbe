"""What the npm package holds for the other processor, run by an emulator."""

import json
import tempfile
from pathlib import Path

import pytest
from conftest import MACHINE, NODE_NAMES, PACKAGES, ROOT, Run, only, unpack

pytestmark = pytest.mark.timeout(900)

OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}[MACHINE]
NODE_NAME = NODE_NAMES[OTHER]
CODE = """
const memguard = require(process.argv[1]);
const manager = new memguard.ResourceManager({ maxMemoryMb: 4096 });
manager.memoryMonitor.startMonitoring();
let written = 0;
const rows = manager.createBuffer('rows', (items) => { written += items.length; });
rows.push(1);
manager.flushBuffer('rows');
console.log(process.arch, memguard.version, written, memguard.rssBytes() > 0);
manager.close();
"""


@pytest.fixture
def emulator(tmp_path: Path) -> list[object]:
    unpack(only(PACKAGES, "memguard-*.tgz"), tmp_path)
    modules = tmp_path / "package" / "node_modules"
    modules.mkdir()
    (modules / "node-gyp-build").symlink_to(ROOT / "node_modules" / "node-gyp-build")
    return [f"/usr/bin/qemu-{OTHER}", "-L", f"/usr/{OTHER.replace('_', '-')}-linux-gnu"]


@pytest.fixture
def node(run: Run) -> Path:
    """The Node of that processor, as npm's registry has it; kept in build/."""
    listing = json.loads((ROOT / "tests/runtimes/package.json").read_text())
    wanted = listing["optionalDependencies"][f"node24-{NODE_NAME}"].removeprefix("npm:")
    folder = ROOT / "build" / "package-node" / wanted
    if not (folder / "package/bin/node").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run("npm", "pack", "--silent", "--pack-destination", folder, wanted)
        # Whoever is stopped in between leaves no half of it.
        with tempfile.TemporaryDirectory(dir=folder, prefix="draft-") as draft:
            unpack(only(folder, "*.tgz"), draft)
            Path(draft, "package").rename(folder / "package")
    return folder / "package/bin/node"


def test_the_addon(
    run: Run, emulator: list[object], node: Path, tmp_path: Path
) -> None:
    said = run(*emulator, node, "-e", CODE, tmp_path / "package")
    assert said == f"{NODE_NAME} 0.1.0 1 true\n"


def test_the_tool(run: Run, emulator: list[object], tmp_path: Path) -> None:
    tool = tmp_path / f"package/prebuilds/linux-{NODE_NAME}/memguard"
    assert run(*emulator, tool, "--version") == "memguard 0.1.0\n"
    assert json.loads(run(*emulator, tool, "ps", "--json"))["processes"] == []
    assert " PID " in run(*emulator, tool, "top", "--once")
