//! What is answered: whole and streamed, by chat and by bare prompt, with all that can be asked for.

use serde_json::{Value, json};

use crate::client::{CHAT, Server, TEXT};
use crate::toy;

fn chat(content: &str) -> Value {
    json!({ "model": "parrot", "messages": [{ "role": "user", "content": content }], "temperature": 0 })
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a_chat_completion_has_openais_shape() {
    let server = Server::start();
    let reply = server.post(CHAT, &chat("the quick café"));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert!(reply.header("x-request-id").unwrap().starts_with("req_"));
    let json = reply.json();
    assert!(json["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(json["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["model"], "parrot");
    let message = json!({ "role": "assistant", "content": "the quick café", "refusal": null });
    let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": "stop" });
    assert_eq!(json["choices"], json!([choice]));
    let tokenizer = toy::tokenizer();
    let message = tokenizer::chat::Message::new(tokenizer::chat::Role::User, "the quick café");
    let prompt = tokenizer::chat::prompt(&tokenizer, &[message]).len();
    let answer = tokenizer.encode("the quick café").len() + 1;
    let usage = json!({ "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer, "prompt_tokens_details": { "cached_tokens": 0 } });
    assert_eq!(json["usage"], usage);
}

#[test]
fn a_streamed_chat_is_the_same_answer_in_pieces() {
    let server = Server::start();
    let body =
        with(chat("naïve fox € 🦙"), json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let events = server.post(CHAT, &body).events();
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"])
    );
    assert_eq!(events[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let text: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "naïve fox € 🦙");
    let [.., last, usage] = events.as_slice() else { panic!("too few events") };
    assert_eq!(
        last["choices"],
        json!([{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop" }])
    );
    assert!(last["usage"].is_null() && last.get("usage").is_some());
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64().unwrap() > 4);

    let events = server.post(CHAT, &with(chat("fox"), json!({ "stream": true }))).events();
    assert!(events.iter().all(|event| event.get("usage").is_none()));
}

#[test]
fn conversations_and_contents_of_all_kinds_are_read() {
    let server = Server::start();
    let ask = |messages: Value| {
        let reply = server.post(CHAT, &json!({ "messages": messages, "temperature": 0 }));
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_string()
    };
    let parts = json!([{ "type": "text", "text": "lazy " }, { "type": "text", "text": "dog" }]);
    assert_eq!(ask(json!([{ "role": "user", "content": parts }])), "lazy dog");
    let conversation = json!([
        { "role": "developer", "content": "Repeat." },
        { "role": "user", "content": "one", "name": "somebody" },
        { "role": "assistant", "content": "one", "tool_calls": null },
        { "role": "tool", "content": "42", "tool_call_id": "x" },
        { "role": "user", "content": "two" },
    ]);
    assert_eq!(ask(conversation), "two");
    // What looks like a special token is text.
    assert_eq!(ask(json!([{ "role": "user", "content": "<|eot_id|>fox" }])), "<|eot_id|>fox");
}

#[test]
fn limits_and_stops_end_the_answer() {
    let server = Server::start();
    let ask = |more: Value| {
        let json = server.post(CHAT, &with(chat("one two three four"), more)).json();
        let choice = &json["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap().to_string();
        (text, choice["finish_reason"].as_str().unwrap().to_string())
    };
    let first_two = toy::tokenizer().decode(&toy::tokenizer().encode("one two three four")[..2]);
    assert_eq!(ask(json!({ "max_tokens": 2 })), (first_two.clone(), "length".into()));
    assert_eq!(ask(json!({ "max_completion_tokens": 2, "max_tokens": 5 })), (first_two, "length".into()));
    assert_eq!(ask(json!({ "stop": " th" })), ("one two".into(), "stop".into()));
    assert_eq!(ask(json!({ "stop": ["zzz", "two"] })), ("one ".into(), "stop".into()));
    assert_eq!(ask(json!({ "stop": null })), ("one two three four".into(), "stop".into()));
}

#[test]
fn parameters_that_change_nothing_here_are_tolerated() {
    let server = Server::start();
    let more = json!({
        "user": "me", "store": false, "metadata": { "a": "b" }, "service_tier": "auto", "seed": -5, "n": null,
        "parallel_tool_calls": true, "tools": [], "tool_choice": "none", "response_format": { "type": "text" },
        "modalities": ["text"], "logit_bias": { "3": -1.5 }, "presence_penalty": 0, "frequency_penalty": 0.0,
        "top_p": 1, "top_k": 0, "min_p": 0.0, "something_of_tomorrow": [1, 2, 3],
    });
    let reply = server.post(CHAT, &with(chat("fox"), more));
    assert_eq!((reply.status, &reply.json()["choices"][0]["message"]["content"]), (200, &json!("fox")));
}

#[test]
fn several_choices_have_their_own_random_numbers() {
    let server = Server::start();
    // Hot and long enough for the draws to differ.
    let body =
        with(chat("the dog"), json!({ "n": 3, "temperature": 2, "top_p": 1, "seed": 7, "max_tokens": 40 }));
    let contents = |body: &Value| -> Vec<String> {
        let json = server.post(CHAT, body).json();
        let choices = json["choices"].as_array().unwrap();
        assert!(choices.iter().enumerate().all(|(index, choice)| choice["index"] == index));
        choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap().to_string()).collect()
    };
    let first = contents(&body);
    assert_eq!(first.len(), 3);
    assert_eq!(first, contents(&body));
    assert!(first[0] != first[1] && first[1] != first[2], "{first:?}");

    let events = server.post(CHAT, &with(body, json!({ "stream": true }))).events();
    for (index, whole) in first.iter().enumerate() {
        let mine = events.iter().filter(|event| event["choices"][0]["index"] == index);
        let text: String =
            mine.filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(&text, whole);
    }
}

#[test]
fn log_probabilities_of_a_chat_cover_its_tokens() {
    let server = Server::start();
    let body = with(chat("café"), json!({ "logprobs": true, "top_logprobs": 2 }));
    let json = server.post(CHAT, &body).json();
    let content = json["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let bytes: Vec<u8> = content
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8))
        .collect();
    assert_eq!(bytes, "café".as_bytes());
    for token in &content {
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
        assert_eq!(token["top_logprobs"][0]["token"], token["token"]);
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
    let events = server.post(CHAT, &with(body, json!({ "stream": true }))).events();
    let streamed: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(streamed, content);
}

#[test]
fn a_completion_goes_on_with_its_prompt() {
    let server = Server::start();
    let json = server
        .post(TEXT, &json!({ "model": "parrot", "prompt": "dog a", "max_tokens": 3, "temperature": 0 }))
        .json();
    assert!(json["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(json["object"], "text_completion");
    let last = *toy::tokenizer().encode("dog a").last().unwrap();
    let text = toy::tokenizer().decode(&[last; 3]);
    assert_eq!(
        json["choices"],
        json!([{ "text": text, "index": 0, "logprobs": null, "finish_reason": "length" }])
    );
    // <|begin_of_text|> comes before the text.
    let prompt = toy::tokenizer().encode("dog a").len() + 1;
    assert_eq!(
        json["usage"],
        json!({ "prompt_tokens": prompt, "completion_tokens": 3, "total_tokens": prompt + 3, "prompt_tokens_details": { "cached_tokens": 0 } })
    );
    // OpenAI's default of 16 tokens.
    let json = server.post(TEXT, &json!({ "prompt": "dog" })).json();
    assert_eq!(json["usage"]["completion_tokens"], 16);
}

#[test]
fn prompts_may_be_texts_or_tokens_one_or_many() {
    let server = Server::start();
    let texts = |prompt: Value, more: Value| -> Vec<String> {
        let body = with(json!({ "prompt": prompt, "max_tokens": 2, "temperature": 0, "echo": true }), more);
        let reply = server.post(TEXT, &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        let json = reply.json();
        json["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|choice| choice["text"].as_str().unwrap().to_string())
            .collect()
    };
    let (a, b) = (toy::tokenizer().encode("a")[0], toy::tokenizer().encode("b")[0]);
    assert_eq!(texts(json!("a"), json!({})), ["aaa"]);
    assert_eq!(texts(json!(["a", "b"]), json!({})), ["aaa", "bbb"]);
    assert_eq!(texts(json!([a, b]), json!({})), ["abbb"]);
    assert_eq!(texts(json!([[a, b], [b, a], "a"]), json!({})), ["abbb", "baaa", "aaa"]);
    assert_eq!(texts(json!(["a", "b"]), json!({ "n": 2 })), ["aaa", "aaa", "bbb", "bbb"]);
    assert_eq!(texts(json!(["a", "b"]), json!({ "echo": false })), ["aa", "bb"]);
    // Usage counts each prompt once, however many answers it has.
    let body = json!({ "prompt": ["a", "b"], "n": 2, "max_tokens": 3 });
    let usage = server.post(TEXT, &body).json()["usage"].clone();
    assert_eq!(
        usage,
        json!({ "prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16, "prompt_tokens_details": { "cached_tokens": 0 } })
    );
}

#[test]
fn a_streamed_completion_is_the_same_answer_in_pieces() {
    let server = Server::start();
    let body = json!({
        "prompt": ["ab", "c"], "max_tokens": 3, "temperature": 0, "stream": true, "echo": true,
        "stream_options": { "include_usage": true },
    });
    let events = server.post(TEXT, &body).events();
    for (index, expected) in ["abbbb", "cccc"].iter().enumerate() {
        let choices =
            events.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == index);
        let choices: Vec<&Value> = choices.collect();
        let text: String = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(&text, expected);
        assert_eq!(choices.last().unwrap()["finish_reason"], "length");
    }
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 6);
}

#[test]
fn log_probabilities_of_a_completion_are_parallel_lists() {
    let server = Server::start();
    let body = json!({ "prompt": "a", "max_tokens": 3, "temperature": 0, "logprobs": 2 });
    let logprobs = server.post(TEXT, &body).json()["choices"][0]["logprobs"].clone();
    assert_eq!(logprobs["tokens"], json!(["a", "a", "a"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 2]));
    assert_eq!(logprobs["top_logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(logprobs["top_logprobs"][0]["a"], logprobs["token_logprobs"][0]);
}

#[test]
fn models_health_and_page_are_there() {
    let server = Server::with(std::time::Duration::ZERO, |_, info| info.model = "meta/parrot".into());
    let json = server.get("/v1/models").json();
    assert_eq!((&json["object"], &json["data"][0]["id"]), (&json!("list"), &json!("meta/parrot")));
    assert_eq!(json["data"][0]["max_model_len"], 4096);
    assert_eq!(server.get("/v1/models/meta/parrot").json(), json["data"][0]);
    assert_eq!(server.get("/healthz").json(), json!({ "status": "ok", "running": 0, "waiting": 0 }));
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
}

#[test]
fn the_page_asks_nothing_of_other_servers() {
    let page = Server::start().get("/").body;
    for (place, _) in page.match_indices("http") {
        // A name of an XML namespace, inside the icon, is the one address it holds.
        assert!(page[place..].starts_with("http://www.w3.org/2000/svg'"), "{}", &page[place..place + 60]);
    }
    assert!(!page.contains("src=") && !page.contains("@import") && !page.contains("url("));
}

#[test]
fn the_scores_of_a_prompt_are_told_with_its_echo() {
    let server = Server::start();
    for stream in [false, true] {
        // As lm-evaluation-harness asks for log-likelihoods, but for the stream.
        let tokens = toy::tokenizer().encode("the dog");
        let body = json!({
            "prompt": [tokens], "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": true, "stream": stream,
        });
        let reply = server.post(TEXT, &body);
        let pieces = if stream { reply.events() } else { vec![reply.json()] };
        let choices: Vec<&Value> = pieces.iter().map(|piece| &piece["choices"][0]).collect();
        let text: String = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        let joined = |list: &str| -> Vec<Value> {
            let lists = choices.iter().filter_map(|choice| choice["logprobs"][list].as_array());
            lists.flatten().cloned().collect()
        };
        assert!(text.starts_with("the dog") && text.len() > 7, "{text:?}");
        assert_eq!(joined("tokens").iter().map(|token| token.as_str().unwrap()).collect::<String>(), text);
        let (logprobs, top) = (joined("token_logprobs"), joined("top_logprobs"));
        assert_eq!((logprobs.len(), top.len()), (tokens.len() + 1, tokens.len() + 1));
        // The first follows nothing.
        assert_eq!((&logprobs[0], &top[0]), (&Value::Null, &Value::Null));
        assert!(logprobs[1..].iter().all(|logprob| logprob.as_f64().unwrap() <= 0.0));
        // The last is the answer's own, so it is the likeliest.
        let likeliest = top[tokens.len()].as_object().unwrap();
        assert_eq!(likeliest.values().next(), logprobs.last());
        let offsets = joined("text_offset");
        assert_eq!((&offsets[0], offsets.last().unwrap()), (&json!(0), &json!(7)));
    }
    // Scores alone, of several prompts at once. Of a text each token has one: the server puts the beginning of a document
    // before it, and does not tell of what the client did not send.
    let body = json!({ "prompt": ["the dog", "a", ""], "max_tokens": 0, "logprobs": 0, "echo": true });
    let reply = server.post(TEXT, &body).json();
    assert_eq!(reply["choices"][0]["text"], "the dog");
    let logprobs = &reply["choices"][1]["logprobs"];
    assert_eq!((&logprobs["tokens"], &logprobs["text_offset"]), (&json!(["a"]), &json!([0])));
    assert!(logprobs["token_logprobs"][0].is_number());
    assert_eq!(reply["choices"][2]["logprobs"]["tokens"], json!([]));
    assert_eq!(reply["usage"]["completion_tokens"], 0);
}

#[test]
fn a_text_that_begins_a_document_itself_is_taken_as_it_is_laid_out() {
    let server = Server::start();
    let tokenizer = toy::tokenizer();
    let text = "<|begin_of_text|>the dog<|eot_id|>a";
    let tokens =
        [vec![tokenizer.bos()], tokenizer.encode("the dog"), vec![tokenizer.eot()], tokenizer.encode("a")]
            .concat();
    let scores = |prompt: Value| {
        let body =
            json!({ "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": true });
        let reply = server.post(TEXT, &body).json();
        (reply["choices"].clone(), reply["usage"]["prompt_tokens"].clone())
    };
    let told = scores(json!(text));
    assert_eq!(told, scores(json!(tokens)));
    assert_eq!(told.1, json!(tokens.len()));
    let logprobs = &told.0[0]["logprobs"];
    assert_eq!(logprobs["tokens"][0], "<|begin_of_text|>");
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    // Counted in the text that comes back.
    assert_eq!(logprobs["text_offset"][1], "<|begin_of_text|>".len());
    // In other texts they are no tokens.
    let other = scores(json!("the dog<|eot_id|>a"));
    assert!(other.1.as_u64().unwrap() > tokens.len() as u64);
    assert_eq!(other.0[0]["text"].as_str().unwrap(), "the dog<|eot_id|>aa");
}

#[test]
fn the_best_of_several_answers_are_those_likeliest_a_token() {
    let server = Server::start();
    let ask = |more: Value| {
        let body =
            json!({ "prompt": ["the dog", "a"], "max_tokens": 6, "temperature": 2, "top_p": 1, "seed": 7 });
        server.post(TEXT, &with(body, more)).json()
    };
    let mean = |choice: &Value| {
        let list = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        list.iter().map(|value| value.as_f64().unwrap()).sum::<f64>() / list.len().max(1) as f64
    };
    let all = ask(json!({ "n": 12, "logprobs": 0 }));
    let best = ask(json!({ "n": 2, "best_of": 12, "logprobs": 0 }));
    let choices = best["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| &choice["index"]).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for (prompt, shown) in choices.chunks(2).enumerate() {
        let candidates = &all["choices"].as_array().unwrap()[12 * prompt..12 * (prompt + 1)];
        let mut ranked: Vec<&Value> = candidates.iter().collect();
        ranked.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        let texts =
            |choices: &[&Value]| choices.iter().map(|choice| choice["text"].clone()).collect::<Vec<_>>();
        assert_eq!(texts(&shown.iter().collect::<Vec<_>>()), texts(&ranked[..2]));
        assert!(mean(ranked[0]) > mean(ranked[11]));
    }
    // What was written and not shown was written all the same.
    assert_eq!(best["usage"]["completion_tokens"], all["usage"]["completion_tokens"]);
    let unscored = ask(json!({ "n": 2, "best_of": 12 }));
    assert_eq!(unscored["choices"][0]["logprobs"], Value::Null);
    assert_eq!(unscored["choices"][3]["text"], choices[3]["text"]);
}

#[test]
fn tokens_and_texts_are_turned_into_each_other() {
    let server = Server::start();
    let tokenizer = toy::tokenizer();
    let info = server.get("/tokenizer_info").json();
    assert_eq!((&info["bos_token"], &info["vocab_size"]), (&json!("<|begin_of_text|>"), &json!(544)));
    let tokens = |body: Value| server.post("/tokenize", &body).json()["tokens"].clone();
    let plain = json!(tokenizer.encode("the dog"));
    assert_eq!(tokens(json!({ "prompt": "the dog", "add_special_tokens": false })), plain);
    let whole = tokens(json!({ "prompt": "the dog" }));
    assert_eq!(whole[0], tokenizer.bos());
    assert_eq!(tokens(json!({ "prompt": "<|begin_of_text|>the dog" })), whole);
    // How lm-evaluation-harness learns the number of a special token.
    let end = json!({ "prompt": info["eos_token"], "add_special_tokens": false });
    assert_eq!(tokens(end), json!([tokenizer.eos()]));
    let text = server.post("/detokenize", &json!({ "tokens": whole })).json();
    assert_eq!(text["prompt"], "<|begin_of_text|>the dog");
    let shown = server.post("/tokenize", &json!({ "prompt": "the dog", "return_token_strs": true })).json();
    let texts = shown["token_strs"].as_array().unwrap();
    assert_eq!(
        texts.iter().map(|text| text.as_str().unwrap()).collect::<String>(),
        text["prompt"].as_str().unwrap()
    );
    assert_eq!(shown["count"], texts.len());
}

#[test]
fn tokens_that_were_found_in_the_cache_are_told() {
    let server = Server::start();
    let body = json!({ "prompt": "the dog sleeps on ".repeat(20), "max_tokens": 1, "temperature": 0 });
    let cached = |reply: Value| reply["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert_eq!(cached(server.post(TEXT, &body).json()), 0);
    assert!(cached(server.post(TEXT, &body).json()) > 0);
    let metrics = server.get("/metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("alti_prompt_tokens_cached_total "));
    assert_eq!(line.unwrap().parse::<u64>().unwrap(), server.engine.stats().cached_tokens);
}

#[test]
fn tokens_that_were_guessed_are_told_and_change_nothing() {
    let speculative = Server::with(std::time::Duration::ZERO, |settings, _| {
        settings.speculative = engine::Speculative::Lookup;
    });
    // The bias leaves one token, so that the answer repeats itself.
    let body = json!({
        "prompt": "the dog", "max_tokens": 40, "temperature": 0, "logit_bias": { "100": 100 }, "ignore_eos": true,
        "n": 2,
    });
    let found = speculative.post(TEXT, &body).json();
    let plain = Server::start().post(TEXT, &body).json();
    assert_eq!(found["choices"], plain["choices"]);
    assert!(plain["usage"].get("completion_tokens_details").is_none());
    let details = &found["usage"]["completion_tokens_details"];
    let [right, wrong] =
        ["accepted", "rejected"].map(|which| details[format!("{which}_prediction_tokens")].as_u64().unwrap());
    assert!(right > 20, "{found}");
    assert_eq!(found["usage"]["completion_tokens"], 80);
    let metrics = speculative.get("/metrics").body;
    let sample = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    assert_eq!(sample("alti_draft_tokens_total "), right + wrong);
    assert_eq!(sample("alti_draft_tokens_accepted_total "), right);
}

#[test]
fn texts_and_tokens_have_vectors() {
    let server = Server::start();
    let embed = |body: Value| server.post("/v1/embeddings", &body).json();
    let tokens = toy::tokenizer().encode("the dog");
    let reply = embed(json!({ "model": "parrot", "input": ["the dog", "a fox"] }));
    let vectors = reply["data"].as_array().unwrap();
    assert_eq!((&reply["object"], vectors.len(), &vectors[1]["index"]), (&json!("list"), 2, &json!(1)));
    let vector: Vec<f64> =
        vectors[0]["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert!((vector.iter().map(|value| value * value).sum::<f64>() - 1.0).abs() < 1e-6, "{vector:?}");
    assert_eq!(reply["usage"]["prompt_tokens"], reply["usage"]["total_tokens"]);
    // The last token's state alone, of tokens, in base64.
    let last = f64::from(tokens[tokens.len() - 1]);
    let state = [last % 7.0, last % 5.0, 1.0];
    let length = state.iter().map(|value| value * value).sum::<f64>().sqrt();
    let reply = embed(json!({ "input": tokens, "pooling": "last" }));
    let encoded = embed(json!({ "input": [tokens], "pooling": "last", "encoding_format": "base64" }));
    for (place, value) in reply["data"][0]["embedding"].as_array().unwrap().iter().enumerate() {
        assert!((value.as_f64().unwrap() - state[place] / length).abs() < 1e-6, "{reply}");
    }
    // Three f32 are 12 bytes, so 16 letters.
    assert_eq!(encoded["data"][0]["embedding"].as_str().unwrap().len(), 16);
    for (body, param) in [
        (json!({}), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": vec!["a"; 257] }), "input"),
        (json!({ "input": "a", "dimensions": 2 }), "dimensions"),
        (json!({ "input": "a", "encoding_format": "roman" }), "encoding_format"),
        (json!({ "input": "word ".repeat(3000) }), "input"),
    ] {
        let reply = server.post("/v1/embeddings", &body);
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)), "{reply:?}");
    }
}
