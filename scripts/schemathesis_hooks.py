"""What a schema cannot say of a valid request, put right before it is sent.

Only requests that are meant to be valid are changed, and only where the document says in words what is asked for: a
model that exists, a tool that the server has, names that are not used twice, an input that ends with a user's words,
messages that have names and no files, a chunk that there is, calls that have their results.
So the check that valid requests are accepted stays as strict as it is. Requests that are meant to be invalid are sent
as they are.
"""

import itertools

import schemathesis

MODELS = ["demo/assistant", "demo/echo", "demo/story", "demo/tools", "demo/reasoning", "demo/chaos", "echo"]
# Those that ask nobody, so that a request which waits for the whole answer has it.
UNASKING = ["demo/echo", "demo/story", "demo/reasoning", "echo"]
FRESH = itertools.count()
SAMPLING = {"temperature", "top_p", "max_tokens", "stop", "seed", "tokens_per_second"}


@schemathesis.hook
def before_call(context, case, kwargs):
    # A stream of which everything is left out is silent until its run ends, and then has no event with JSON.
    for name in ("startIndex", "starting_after"):
        if case.query and str(case.query.get(name, "")).isdigit():
            case.query[name] = 0
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    operation = case.operation.definition.raw["operationId"]
    if operation == "createSession" and isinstance(case.body, dict):
        case.body = create(integers(case.body))
    elif operation == "giveCommand" and isinstance(case.body, dict):
        # The two names of a command must not differ.
        key = (case.headers or {}).get("Idempotency-Key")
        if key is not None and case.body.get("command_id") is not None:
            case.body = {**case.body, "command_id": key}
    elif operation == "submitChat" and isinstance(case.body, dict):
        case.body = chat(options(integers(case.body)))
    elif operation == "createCompletion" and isinstance(case.body, dict):
        case.body = completion(integers(case.body))
        keyed(case)
    elif operation == "createResponse" and isinstance(case.body, dict):
        case.body = response(integers(case.body))
        keyed(case)
    elif operation == "listInputItems" and case.query:
        # The name of an item that is there.
        case.query.pop("after", None)
    elif operation == "readEvents" and case.query:
        # `wait_s` and `limit` are for pages, and a page is asked for with a header that a document cannot describe.
        if "wait_s" in case.query or "limit" in case.query:
            case.headers["Accept"] = "application/json"
        if "wait_s" in case.query:
            case.query["wait_s"] = min(int(case.query["wait_s"]), 1)


def integers(value):
    """JSON Schema counts `200.0` among the integers; the document says that it is not taken for one."""
    if isinstance(value, dict):
        return {name: integers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [integers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def create(body):
    """A body that the server can serve."""
    if isinstance(body.get("input"), list):
        body["input"] = [*body["input"], {"role": "user", "content": "go on"}]
        for said in body["input"]:
            # Each call has a name of its own.
            for call in said.get("calls") or []:
                call.update(call_id=f"call-{next(FRESH)}", name="look")
    return options(body)


def chat(body):
    """The same for a chat: its messages have names, the newest one says something, and no model is not its own."""
    for number, message in enumerate(messages(body)):
        message["id"] = f"m{number}"
        for part in message.get("parts", []):
            if part["type"] == "file":
                part["type"] = "step-start"
    if messages(body):
        if messages(body)[-1]["role"] == "system":
            messages(body)[-1]["role"] = "user"
        messages(body)[-1].setdefault("parts", []).append({"type": "text", "text": "go on"})
    else:
        body["messages"] = [{"id": "m0", "role": "user", "parts": [{"type": "text", "text": "go on"}]}]
    # A chat keeps its model, and other requests know its name.
    if body.get("id") is not None:
        body.pop("model", None)
    # An answer is named by the server.
    if body.get("messageId") is not None:
        body["messageId"] = "m0"
    return body


def messages(body):
    """The messages that count."""
    if body.get("messages") is not None:
        return body["messages"]
    return [body["message"]] if body.get("message") is not None else []


def options(body):
    """What a session is to be."""
    if body.get("model") is not None:
        body["model"] = MODELS[len(body["model"]) % len(MODELS)]
    if "params" in body:
        known = {name: value for name, value in body["params"].items() if name in SAMPLING}
        extras = [value for name, value in body["params"].items() if name not in SAMPLING]
        body["params"] = {**known, **{"demo": extra for extra in extras}}
    if "tools" in body:
        tools = {tool["name"]: tool for tool in body["tools"]}
        for tool in tools.values():
            if "parameters" in tool:
                # Any object, but it must be a JSON Schema: what was made up becomes a part that means nothing.
                tool["parameters"] = {"type": "object", "default": tool["parameters"]}
            if tool.get("executor") == "builtin":
                tool["executor"] = "client" if tool["name"] != "get_weather" else "builtin"
            if tool.get("executor") == "builtin":
                tool.pop("ends_run", None)
        body["tools"] = list(tools.values())
    return body


def keyed(case):
    """A key is for one request."""
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = f"key-{next(FRESH)}"


def completion(body):
    """A body of OpenAI's Chat Completions: calls of one answer are followed by their results, and no others are."""
    messages = []
    for message in body.get("messages", []):
        if message["role"] == "tool":
            continue
        # Read where there is no content, so it must be what it is.
        message.pop("refusal", None)
        calls = message.get("tool_calls") or []
        for call in calls:
            call["id"] = f"call_{next(FRESH)}"
            call["function"] = {**call["function"], "name": "look", "arguments": "{}"}
        messages.append(message)
        messages.extend({"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in calls)
    body["messages"] = messages or [{"role": "user", "content": "go on"}]
    if body.get("max_tokens") is not None:
        body.pop("max_completion_tokens", None)
    return wishes(body)


def response(body):
    """A body of the Responses API: a beginning, of items that need no others."""
    body.pop("previous_response_id", None)
    if body.get("conversation") is not None:
        name = f"conversation-{next(FRESH)}"
        body["conversation"] = {"id": name} if isinstance(body["conversation"], dict) else name
    if isinstance(body.get("input"), list):
        alone = (None, "message", "reasoning", "mcp_approval_request", "mcp_list_tools")
        said = [item for item in body["input"] if item.get("type") in alone]
        for item in said:
            # Read where there is no content, so it must be what it is.
            item.pop("summary", None)
        body["input"] = [*said, {"role": "user", "content": "go on"}]
    elif not body.get("input"):
        body["input"] = "go on"
    if body.get("background"):
        body["store"] = True
    return wishes(body)


def wishes(body):
    """What both formats ask for beside what is said."""
    body["model"] = UNASKING[len(body.get("model") or "") % len(UNASKING)]
    body["tokens_per_second"] = 100_000
    tools, servers = {}, []
    for tool in body.get("tools") or []:
        if tool["type"] == "mcp":
            tool.pop("allowed_tools", None)
            servers = [tool]
        else:
            function = tool.get("function", tool)
            # Any object, but it must be a JSON Schema.
            function["parameters"] = {"type": "object", "default": function.get("parameters") or {}}
            tools[function["name"]] = tool
    if "tools" in body:
        body["tools"] = [*tools.values(), *servers]
    # A choice is among the tools that there are.
    if body.get("tool_choice") not in ("auto", "none"):
        body.pop("tool_choice", None)
    return body
