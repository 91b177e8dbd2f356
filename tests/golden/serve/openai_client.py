"""Goes through a server with OpenAI's own Python client: chat, streams, completions, responses, models, errors.

    cargo run -p serve --example toy_server -- 8000          # answers with what it is told
    python openai_client.py http://127.0.0.1:8000/v1 --repeats

    alti serve runs/NAME                                     # or any real model: all but the texts is checked
    python openai_client.py http://127.0.0.1:8080/v1

Prints a line for each step and one line of JSON at the end; the exit status is 1 when a step failed.
"""

import argparse
import asyncio
import enum
import json
import sys
import time

import openai
import pydantic


def check(condition, message):
    if not condition:
        raise AssertionError(message)


class Colour(str, enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(pydantic.BaseModel):
    width: int = pydantic.Field(ge=0, le=99)
    height: int = pydantic.Field(ge=0, le=99)


class Box(pydantic.BaseModel):
    colour: Colour
    sizes: list[Size] = pydantic.Field(min_length=1, max_length=2)
    label: str | None = pydantic.Field(max_length=8)


class Weather(pydantic.BaseModel):
    """The weather of a place."""

    city: Colour
    days: int = pydantic.Field(ge=1, le=9)


TOOLS = [openai.pydantic_function_tool(Weather)]
# Shown in the system message, so that a model that repeats its question does not repeat the tools.
APART = {"extra_body": {"chat_template_kwargs": {"tools_in_user_message": False}}}
CALL = '{"name": "Weather", "parameters": {"city": "red", "days": 3}}'


class Steps:
    def __init__(self, url, key, repeats):
        self.client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=120)
        self.asynchronous = openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=120)
        self.repeats = repeats
        self.model = None

    def chat(self, content="Say: the quick brown fox", **more):
        messages = [{"role": "user", "content": content}]
        settings = {"temperature": 0, "max_tokens": 40, **more}
        return self.client.chat.completions.create(model=self.model, messages=messages, **settings)

    def models(self):
        models = self.client.models.list().data
        check(len(models) == 1, models)
        self.model = models[0].id
        check(self.client.models.retrieve(self.model).id == self.model, "retrieve")

    def whole_chat(self):
        answer = self.chat()
        check(answer._request_id.startswith("req_"), answer._request_id)
        choice = answer.choices[0]
        check(choice.message.role == "assistant" and choice.finish_reason in ("stop", "length"), choice)
        check(answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer.usage)
        if self.repeats:
            check(choice.message.content == "Say: the quick brown fox", choice)

    def streamed_chat(self):
        whole = self.chat().choices[0].message.content
        pieces, usage, reason = [], None, None
        for chunk in self.chat(stream=True, stream_options={"include_usage": True}):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                reason = choice.finish_reason or reason
        check("".join(pieces) == whole, (pieces, whole))
        check(usage.completion_tokens > 0 and reason in ("stop", "length"), (usage, reason))

    def stream_helper(self):
        messages = [{"role": "user", "content": "hello"}]
        with self.client.chat.completions.stream(model=self.model, messages=messages, max_tokens=20) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        check("content.done" in kinds or not final.choices[0].message.content, kinds)
        check(final.choices[0].finish_reason in ("stop", "length"), final)

    def choices_and_seeds(self):
        more = {"n": 3, "temperature": 1.5, "top_p": 1, "seed": 11, "max_tokens": 12}
        texts = [[choice.message.content for choice in self.chat(**more).choices] for _ in range(2)]
        check(texts[0] == texts[1], texts)
        check(len(set(texts[0])) > 1, texts[0])

    def log_probabilities(self):
        content = self.chat(logprobs=True, top_logprobs=3, max_tokens=5).choices[0].logprobs.content
        for token in content:
            check(len(token.top_logprobs) == 3 and token.logprob <= 0, token)
            check(token.logprob == token.top_logprobs[0].logprob, token)
        answer = self.client.completions.create(
            model=self.model, prompt="The", logprobs=2, max_tokens=4, temperature=0
        )
        logprobs = answer.choices[0].logprobs
        check(len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset), logprobs)

    def completions(self):
        answer = self.client.completions.create(
            model=self.model, prompt=["the dog", "the fox"], max_tokens=4, temperature=0
        )
        check([choice.index for choice in answer.choices] == [0, 1], answer)
        more = {"model": self.model, "prompt": "the dog", "max_tokens": 4, "temperature": 0}
        streamed = "".join(chunk.choices[0].text for chunk in self.client.completions.create(**more, stream=True))
        check(streamed == answer.choices[0].text, (streamed, answer.choices[0].text))

    def responses(self):
        more = {"model": self.model, "temperature": 0, "max_output_tokens": 40}
        first = self.client.responses.create(
            input="the quick fox", instructions="the lazy dog", metadata={"a": "b"}, **more
        )
        check(first.status in ("completed", "incomplete") and first.metadata == {"a": "b"}, first)
        check(first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens, first.usage)
        check(self.client.responses.retrieve(first.id) == first, "retrieve")
        second = self.client.responses.create(
            input=[{"role": "user", "content": [{"type": "input_text", "text": "the dog"}]}],
            previous_response_id=first.id, include=["message.output_text.logprobs"], top_logprobs=2, **more,
        )
        check(second.usage.input_tokens > 0 and second.previous_response_id == first.id, second)
        check(len(second.output[0].content[0].logprobs[0].top_logprobs) == 2, second)
        if self.repeats:
            check((first.output_text, second.output_text) == ("the quick fox", "the dog"), (first, second))
        self.client.responses.delete(first.id)
        try:
            self.client.responses.retrieve(first.id)
            raise AssertionError("a deleted response was found")
        except openai.NotFoundError:
            pass

    def streamed_responses(self):
        more = {"model": self.model, "input": "the quick fox", "temperature": 0, "max_output_tokens": 40}
        whole = self.client.responses.create(**more).output_text
        events = list(self.client.responses.create(stream=True, **more))
        check([event.sequence_number for event in events] == list(range(len(events))), events)
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        check("".join(deltas) == whole == events[-1].response.output_text, (deltas, whole))
        with self.client.responses.stream(**more) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        check(kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete"), kinds)
        check(final.output_text == whole, final)

    def tools_in_responses(self):
        more = {"model": self.model, "max_output_tokens": 200, "temperature": 1, "parallel_tool_calls": False}
        more |= {"input": "What is it like?", "tools": TOOLS, "extra_body": {"seed": 5}}
        for choice in ["required", {"type": "function", "name": "Weather"}]:
            response = self.client.responses.parse(tool_choice=choice, **more)
            [call] = response.output
            check(call.type == "function_call" and isinstance(call.parsed_arguments, Weather), response)
            check(call.call_id.startswith("call_") and call.name == "Weather" and call.status == "completed", call)
            with self.client.responses.stream(tool_choice=choice, **more) as stream:
                events = list(stream)
                [streamed] = stream.get_final_response().output
            check(streamed.parsed_arguments == call.parsed_arguments, (streamed, call))
            pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
            done = [event for event in events if event.type == "response.function_call_arguments.done"]
            check("".join(pieces) == call.arguments == done[0].arguments and len(pieces) > 1, (pieces, call))
        # The result goes back, by the stored response and by its items.
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "warm"}
        more = {"model": self.model, "max_output_tokens": 40, "temperature": 0, **APART}
        thanks = {"role": "user", "content": "Thanks."}
        stored = self.client.responses.create(input=[result, thanks], previous_response_id=response.id, **more)
        asked = {"role": "user", "content": "What is it like?"}
        sent = self.client.responses.create(input=[asked, *response.output, result, thanks], **more)
        check(stored.output_text == sent.output_text and stored.usage.input_tokens == sent.usage.input_tokens, (stored, sent))
        if self.repeats:
            check(stored.output_text == "Thanks.", stored)

    def embeddings(self):
        vectors = self.client.embeddings.create(model=self.model, input=["the dog", "the fox", "the dog"]).data
        check([vector.index for vector in vectors] == [0, 1, 2], vectors)
        first, other, again = (vector.embedding for vector in vectors)
        check(first == again and abs(sum(value * value for value in first) - 1) < 1e-4, first)
        plain = self.client.embeddings.create(model=self.model, input="the fox", encoding_format="float")
        check(max(abs(a - b) for a, b in zip(plain.data[0].embedding, other)) < 1e-6, (plain, other))

    def stop_texts(self):
        if not self.repeats:
            return
        choice = self.chat(stop=["brown", "zzz"]).choices[0]
        check((choice.message.content, choice.finish_reason) == ("Say: the quick ", "stop"), choice)

    def errors(self):
        def refused(kind, param, call):
            try:
                call()
            except kind as error:
                check(error.param == param, (error.param, param))
                check(error.body["message"] and error.type == "invalid_request_error", error.body)
            else:
                raise AssertionError(f"{kind.__name__} was not raised")

        refused(openai.BadRequestError, "temperature", lambda: self.chat(temperature=3))
        refused(openai.BadRequestError, "messages", lambda: self.chat(max_tokens=10**7))
        refused(openai.BadRequestError, "tools[0].function", lambda: self.chat(tools=[{"type": "function"}]))
        impossible = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "thing"}}}
        refused(openai.BadRequestError, "response_format", lambda: self.chat(response_format=impossible))
        refused(openai.NotFoundError, "model", lambda: self.client.models.retrieve("none"))
        known, self.model = self.model, "none"
        refused(openai.NotFoundError, "model", self.chat)
        self.model = known

    def parsed_formats(self):
        hot = {"temperature": 1.5, "seed": 3, "max_tokens": 400}
        messages = [{"role": "user", "content": "A box, please."}]
        answer = self.client.chat.completions.parse(model=self.model, messages=messages, response_format=Box, **hot)
        box = answer.choices[0].message.parsed
        check(isinstance(box, Box) and answer.choices[0].finish_reason == "stop", answer)
        more = {"model": self.model, "messages": messages, "response_format": Box, **hot}
        with self.client.chat.completions.stream(**more) as stream:
            kinds = [event.type for event in stream]
            streamed = stream.get_final_completion().choices[0].message.parsed
        check(streamed == box and "content.delta" in kinds, (streamed, box))
        answer = self.client.completions.create(
            model=self.model, prompt="x", max_tokens=20, extra_body={"guided_regex": "[0-9]{4}"}
        )
        check(answer.choices[0].text.isdigit() and len(answer.choices[0].text) == 4, answer)

    def tools_that_must_be_called(self):
        forced = {"type": "function", "function": {"name": "Weather"}}
        for choice in ["required", forced]:
            more = {"tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": False, "temperature": 1, "seed": 5}
            messages = [{"role": "user", "content": "What is it like?"}]
            more = {"model": self.model, "messages": messages, "max_tokens": 200, **more}
            answer = self.client.chat.completions.parse(**more)
            [call] = answer.choices[0].message.tool_calls
            weather = call.function.parsed_arguments
            check(isinstance(weather, Weather) and answer.choices[0].finish_reason == "tool_calls", answer)
            with self.client.chat.completions.stream(**more) as stream:
                pieces = [event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta"]
                [streamed] = stream.get_final_completion().choices[0].message.tool_calls
            check(streamed.function.parsed_arguments == weather and len(pieces) > 1, (streamed, weather, pieces))
            check("".join(pieces) == call.function.arguments and streamed.id.startswith("call_"), (pieces, call))

    def tools_in_a_conversation(self):
        if not self.repeats:
            return
        answer = self.chat(CALL, tools=TOOLS, max_tokens=100, **APART).choices[0]
        check(answer.finish_reason == "tool_calls" and answer.message.content is None, answer)
        [call] = answer.message.tool_calls
        check(json.loads(call.function.arguments) == {"city": "red", "days": 3}, call)
        messages = [
            {"role": "user", "content": "What is it like?"},
            answer.message,
            {"role": "tool", "tool_call_id": call.id, "content": "warm"},
            {"role": "user", "content": "Thanks."},
        ]
        more = {"model": self.model, "messages": messages, "tools": TOOLS, "temperature": 0, **APART}
        final = self.client.chat.completions.create(**more).choices[0]
        check(final.message.content == "Thanks." and final.finish_reason == "stop", final)
        with self.client.chat.completions.stream(**{**more, "messages": [{"role": "user", "content": CALL}]}) as stream:
            done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        check(len(done) == 1 and done[0].parsed_arguments == Weather(city="red", days=3), done)

    def leaving(self):
        stream = self.chat("word " * 40, stream=True, max_tokens=60)
        next(iter(stream))
        stream.close()
        self.whole_chat()

    def many_at_once(self):
        async def ask(number):
            answer = await self.asynchronous.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": f"client {number}"}],
                max_tokens=30,
                temperature=0,
            )
            return answer.choices[0].message.content

        async def all_of_them():
            return await asyncio.gather(*(ask(number) for number in range(24)))

        texts = asyncio.run(all_of_them())
        if self.repeats:
            check(texts == [f"client {number}" for number in range(24)], texts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--key", default="none")
    parser.add_argument("--repeats", action="store_true", help="the model answers with what it is told")
    arguments = parser.parse_args()
    steps = Steps(arguments.url, arguments.key, arguments.repeats)
    names = [
        "models", "whole_chat", "streamed_chat", "stream_helper", "choices_and_seeds", "log_probabilities",
        "completions", "responses", "streamed_responses",
        "tools_in_responses", "embeddings", "stop_texts", "parsed_formats",
        "tools_that_must_be_called", "tools_in_a_conversation", "errors", "leaving", "many_at_once",
    ]
    failed = []
    for name in names:
        start = time.monotonic()
        try:
            getattr(steps, name)()
            print(f"{name:20} ok      {time.monotonic() - start:6.2f} s")
        except Exception as error:
            failed.append(name)
            print(f"{name:20} FAILED  {error!r}")
    print(json.dumps({"openai": openai.__version__, "steps": len(names), "failed": failed}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
