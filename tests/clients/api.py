# The `pusher` SDK of Python, driven by JSON lines.
#
# python api.py '{"host","port","key","id","secret"}'; then on standard input one array a line: a method's name and its arguments.
# Each is answered with one line: what the method returns, or {"error"}.
import json
import sys

import pusher

target = json.loads(sys.argv[1])
client = pusher.Pusher(
    app_id=target["id"],
    key=target["key"],
    secret=target["secret"],
    host=target["host"],
    port=target["port"],
    ssl=False,
)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        answer = getattr(client, name)(*arguments)
    except Exception as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
