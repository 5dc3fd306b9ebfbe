"""A switchboard writes call files into a temporary folder."""

import os

from pycall import Application, Call, CallFile
from service import serve


def call(number: int) -> None:
    file = CallFile(Call(f"SIP/{number}"), Application("Playback", "hello-world"))
    file.spool_dir = file.tempdir
    file.writefile()
    os.unlink(os.path.join(file.tempdir, file.filename))


serve(call, per_second=8)
