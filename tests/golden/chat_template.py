"""Makes crates/tokenizer/tests/it/chat_template.jsonl: conversations, and what the chat template of Llama 3.1 makes of them.

    python chat_template.py FOLDER

FOLDER holds Llama 3.1 Instruct's tokenizer_config.json (or a file chat_template.jinja); Meta's licence does not let it lie
here. The template is rendered by transformers' own `apply_chat_template` environment. Needs transformers (5.24.0) and jinja2.
"""

import json
import pathlib
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place, in \"degrees\" & °C.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Quito", "São Paulo"]},
                "days": {"type": "integer", "minimum": 1, "default": 3},
                "factor": {"type": "number", "maximum": 1e20, "minimum": 1e-7, "default": 2.0},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
NOTHING = {"type": "function", "function": {"name": "nothing", "parameters": {"type": "object", "properties": {}, "required": []}}}
SEARCH = ["brave_search", "wolfram_alpha", "code_interpreter"]


def call(name, arguments):
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "id": "x", "function": {"name": name, "arguments": arguments}}]}


SYSTEM = {"role": "system", "content": "  Be brief.\n"}
USER = {"role": "user", "content": "\n What is it like in Quito? <b> "}
CALLED = [SYSTEM, USER, call("get_weather", {"city": "São Paulo", "days": 2, "list": [1, 2.5, "a'b", None, True], "deep": {"x": {}}})]
ANSWERED = [*CALLED, {"role": "tool", "tool_call_id": "x", "content": "{\"sun\": \"yes\"}\n"}]
SEARCHED = [USER, call("brave_search", {"query": "the weather in Quito"}), {"role": "tool", "content": "warm \"é\""}]
CASES = [
    {"messages": [USER]},
    {"messages": [SYSTEM, USER]},
    {"messages": [SYSTEM, USER], "date_string": "1 Apr 2025"},
    {"messages": [USER, {"role": "assistant", "content": " Warm. "}, {"role": "user", "content": ""}]},
    {"messages": [USER], "tools": [WEATHER]},
    {"messages": [SYSTEM, USER], "tools": [WEATHER, NOTHING]},
    {"messages": [SYSTEM, USER], "tools": [WEATHER, NOTHING], "tools_in_user_message": False},
    {"messages": ANSWERED, "tools": [WEATHER]},
    {"messages": [*ANSWERED, {"role": "assistant", "content": "Sun."}, USER], "tools": [WEATHER], "tools_in_user_message": False},
    {"messages": ANSWERED},
    {"messages": SEARCHED, "builtin_tools": SEARCH},
    {"messages": [SYSTEM, *SEARCHED], "builtin_tools": SEARCH[:1], "tools": [NOTHING]},
    {"messages": CALLED, "builtin_tools": SEARCH, "tools": [WEATHER]},
    {"messages": [USER], "builtin_tools": ["code_interpreter"]},
    {"messages": [USER, call("add", {})]},
]


def main():
    folder = pathlib.Path(sys.argv[1])
    own = folder / "chat_template.jinja"
    text = own.read_text() if own.exists() else json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    template = _compile_jinja_template(text)
    place = pathlib.Path(__file__).parents[2] / "crates/tokenizer/tests/it/chat_template.jsonl"
    with place.open("w") as file:
        for case in CASES:
            rendered = template.render(bos_token="<|begin_of_text|>", add_generation_prompt=True, **case)
            file.write(json.dumps({**case, "rendered": rendered}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
