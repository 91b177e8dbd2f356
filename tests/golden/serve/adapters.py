"""Asks `alti serve` for adapters with OpenAI's own client, and peft for the same answers.

    python adapters.py target/debug/alti

A random Llama and adapters that peft made over it, one served from the start, others loaded, replaced and unloaded through
the client while it runs. Every token that is written is the one that peft's model finds likeliest, and its log-probability is
peft's within 1e-4, alone and with requests for all of them at once. Needs openai, torch, transformers and peft; prints a line
for each step and ends with 1 when one failed.
"""

import argparse
import asyncio
import json
import pathlib
import sys
import tempfile

import openai
import peft
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from lm_eval_harness import Server, make_model

TOLERANCE = 1e-4
TOKENS = 24
PROMPTS = [[3, 100, 200, 300], [7] + list(range(60, 160)), [400, 401, 402]]


def adapter(model, folder, seed, **settings):
    """What peft saves of random adapters over the model; the model with them, to be asked."""
    base = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
    torch.manual_seed(seed)
    tuned = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.1, **settings)).eval()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    tuned.save_pretrained(folder)
    return tuned


def likeliest(model, prompt, ends):
    """The tokens that it writes up to one that ends an answer, and their log-probabilities."""
    tokens, scores = list(prompt), []
    with torch.no_grad():
        for _ in range(TOKENS):
            row = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0, -1].double(), -1)
            if int(row.argmax()) in ends:
                break
            tokens.append(int(row.argmax()))
            scores.append(float(row.max()))
    return tokens[len(prompt):], scores


def check(condition, message):
    if not condition:
        raise AssertionError(message)


class Steps:
    def __init__(self, server, folder, models):
        special = json.loads((folder / "model/tokenizer_config.json").read_text())["added_tokens_decoder"]
        names = ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]
        self.ends = {int(token) for token, entry in special.items() if entry["content"] in names}
        self.client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)
        self.folder, self.models = folder, models
        self.wanted = {}

    def want(self, name, place):
        if (name, place) not in self.wanted:
            self.wanted[name, place] = likeliest(self.models[name], PROMPTS[place], self.ends)
        return self.wanted[name, place]

    def request(self, name, place):
        return dict(model=name, prompt=PROMPTS[place], max_tokens=TOKENS, temperature=0, logprobs=0)

    def compare(self, name, place, answer):
        choice = answer.choices[0]
        check(answer.model == name, (answer.model, name))
        tokens, scores = self.want(name, place)
        found = choice.logprobs.token_logprobs
        check(len(found) == len(tokens), choice)
        worst = max(abs(mine - other) for mine, other in zip(found, scores, strict=True))
        check(worst <= TOLERANCE, f"{name}: log-probabilities differ by {worst}")
        text = self.client.post("/../detokenize", body={"tokens": tokens}, cast_to=object)["prompt"]
        check(choice.text == text, (choice.text, text))
        return worst

    def each_alone(self):
        worst = max(
            self.compare(name, place, self.client.completions.create(**self.request(name, place)))
            for name in self.models for place in range(len(PROMPTS))
        )
        texts = {tuple(self.want(name, 0)[0]) for name in self.models}
        check(len(texts) == len(self.models), "two of them say the same")
        return f"log-probabilities within {worst:.1e}"

    def all_at_once(self):
        async def ask():
            asked = [(name, place) for place in range(len(PROMPTS)) for name in self.models]
            # One for each event loop, whose connections it holds.
            async with openai.AsyncOpenAI(base_url=self.client.base_url, api_key="none", max_retries=0, timeout=120) as client:
                answers = await asyncio.gather(*(client.completions.create(**self.request(*one)) for one in asked))
            return [self.compare(name, place, answer) for (name, place), answer in zip(asked, answers)]

        return f"log-probabilities within {max(asyncio.run(ask())):.1e}"

    def models_are_listed(self):
        listed = {model.id: model for model in self.client.models.list().data}
        check(set(listed) == set(self.models), listed)
        for name in set(self.models) - {"tiny"}:
            check(listed[name].parent == "tiny" and self.client.models.retrieve(name) == listed[name], listed[name])

    def chats_and_streams(self):
        more = dict(model="red", messages=[{"role": "user", "content": "the fox"}], max_tokens=12, temperature=0)
        whole = self.client.chat.completions.create(**more)
        chunks = list(self.client.chat.completions.create(stream=True, **more))
        check({chunk.model for chunk in chunks} == {whole.model} == {"red"}, whole)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        check(streamed == whole.choices[0].message.content, (streamed, whole))
        base = self.client.chat.completions.create(**more | {"model": "tiny"})
        check(base.choices[0].message.content != streamed, base)

    def load(self, name, **more):
        return self.client.post("/load_lora_adapter", body={"lora_name": name, "lora_path": name, **more}, cast_to=object)

    def loaded_while_it_runs(self):
        self.models["blue"] = adapter(self.folder / "model", self.folder / "lora/blue", 2, r=8, lora_alpha=4, use_rslora=True,
                                      target_modules=["q_proj", "k_proj", "gate_proj"])
        check(self.load("blue")["id"] == "blue", "loaded")
        self.models_are_listed()
        self.all_at_once()

    def replaced_in_place(self):
        self.models["blue"] = adapter(self.folder / "model", self.folder / "lora/blue", 3, r=2, lora_alpha=8,
                                      target_modules="all-linear")
        before = self.want("blue", 0)
        self.wanted = {place: found for place, found in self.wanted.items() if place[0] != "blue"}
        try:
            self.load("blue")
            raise AssertionError("a name was given twice")
        except openai.BadRequestError as error:
            check(error.body["param"] == "lora_path", error.body)
        self.load("blue", load_inplace=True)
        check(self.want("blue", 0) != before, "the new one says what the old one said")
        self.all_at_once()

    def unloaded(self):
        self.client.post("/unload_lora_adapter", body={"lora_name": "blue"}, cast_to=object)
        del self.models["blue"]
        self.models_are_listed()
        try:
            self.client.completions.create(**self.request("blue", 0))
            raise AssertionError("an adapter that is gone has answered")
        except openai.NotFoundError as error:
            check(error.code == "model_not_found" and error.param == "model", error.body)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("alti", help="the program")
    arguments = parser.parse_args()
    alti = str(pathlib.Path(arguments.alti).resolve())
    print(f"openai {openai.__version__}, peft {peft.__version__}, torch {torch.__version__}")
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        model = make_model(alti, folder)
        base = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
        red = adapter(model, folder / "red", 1, r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"])
        (folder / "lora").mkdir()
        more = ["--adapter", f"red={folder / 'red'}", "--set", f"serve.adapter_folders=[\"{folder / 'lora'}\"]"]
        with Server(alti, model, *more) as server:
            steps = Steps(server, folder, {"tiny": base, "red": red})
            for name in ["models_are_listed", "each_alone", "all_at_once", "chats_and_streams", "loaded_while_it_runs",
                         "replaced_in_place", "unloaded"]:
                try:
                    print(f"{name:22} ok  {getattr(steps, name)() or ''}")
                except Exception as error:
                    failed.append(name)
                    print(f"{name:22} FAILED  {error!r}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
