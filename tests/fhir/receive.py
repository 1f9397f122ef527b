"""Takes HL7 v2 messages over MLLP with hl7, judges each with hl7apy, and acknowledges it.

    python receive.py [--answer AE|AR] [--count N]

Prints its port, then for each message a line of JSON: its fields as they were understood, and what
hl7apy says of it. Leaves after N messages.
"""

import argparse
import asyncio
import json

from hl7.mllp import start_hl7_server
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hl7apy.validation import Validator


def judge(text):
    """What is wrong with a message, none where nothing is."""
    try:
        message = parse_message(text, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
        Validator.validate(message)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def understood(message):
    return {
        # What is asked for by its path is unescaped already.
        "control": message["MSH.10"],
        "charset": message["MSH.18"],
        "patient": message["PID.3.1.1"],
        "status": message["OBR.25"],
        "notice": message["NTE.3"],
        "observations": [
            [
                str(segment[2]),
                message.unescape(str(segment[3][0][1])),
                message.unescape(str(segment[5])),
                str(segment[11]),
            ]
            for segment in message.segments("OBX")
        ],
    }


async def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--answer", default="AA")
    arguments.add_argument("--count", type=int, default=1)
    arguments = arguments.parse_args()
    done = asyncio.Event()
    left = arguments.count

    async def serve(reader, writer):
        nonlocal left
        message = await reader.readmessage()
        said = understood(message) | {"problem": judge(str(message))}
        print(json.dumps(said), flush=True)
        writer.writemessage(message.create_ack(ack_code=arguments.answer))
        await writer.drain()
        writer.close()
        left -= 1
        if left == 0:
            done.set()

    async with await start_hl7_server(serve, host="127.0.0.1", port=0, encoding="utf-8") as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await done.wait()


asyncio.run(asyncio.wait_for(main(), 60))
