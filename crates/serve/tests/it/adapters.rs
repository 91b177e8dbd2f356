//! Adapters over HTTP: asked for by their names, and loaded and unloaded by clients where that is permitted. The model is a
//! small random Llama, and each answer is held against the engine's own.

use std::path::Path;
use std::sync::Arc;

use engine::{Engine, Request, Settings};
use kernels::gemm::Precision;
use model::Config;
use serde_json::{Value, json};
use serve::ServeInfo;
use tempfile::TempDir;

use crate::client::{CHAT, Server, TEXT};
use crate::openapi::check_reply;
use crate::small;
use crate::toy::tokenizer;

const LOAD: &str = "/v1/load_lora_adapter";
const UNLOAD: &str = "/v1/unload_lora_adapter";
const PROMPT: &str = "the quick brown fox";

fn config() -> Config {
    small::config(tokenizer().vocab_size(), 512)
}

fn adapter(folder: &Path, seed: u64) {
    small::adapter(folder, &config(), seed, 0.2);
}

/// A server of the model `base` with the adapters `red` and `blue`; `green` lies in `lora`, and `far` beside it.
fn serve(change: impl FnOnce(&mut ServeInfo, &Path)) -> (TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    for (seed, name) in ["red", "blue", "lora/green", "far"].into_iter().enumerate() {
        adapter(&dir.path().join(name), seed as u64);
    }
    let llama = small::llama(&config(), Precision::F32);
    let adapters = ["red", "blue"].map(|name| (name.to_owned(), dir.path().join(name))).into();
    let settings = Settings { adapters, ..Settings::default() };
    let engine = Engine::start(Arc::new(llama), tokenizer(), settings).unwrap();
    let mut info = ServeInfo::new("base");
    change(&mut info, dir.path());
    (dir, Server::over(engine, info))
}

fn permitted() -> (TempDir, Server) {
    serve(|info, dir| info.settings.adapter_folders = vec![dir.join("lora")])
}

fn body(model: &str) -> Value {
    json!({ "model": model, "prompt": PROMPT, "max_tokens": 12, "temperature": 0 })
}

/// What the model or its adapter of this name says.
fn said(server: &Server, model: &str) -> String {
    let reply = server.post(TEXT, &body(model));
    assert_eq!(reply.status, 200, "{reply:?}");
    let json = reply.json();
    assert_eq!(json["model"], model);
    json["choices"][0]["text"].as_str().unwrap().to_owned()
}

/// The same from the engine.
fn expected(server: &Server, adapter: Option<&str>) -> String {
    let tokenizer = server.engine.tokenizer();
    let prompt = [vec![tokenizer.bos()], tokenizer.encode(PROMPT)].concat();
    let request = Request { adapter: adapter.map(Into::into), ..Request::greedy(prompt, 12) };
    server.engine.complete(request).unwrap().text
}

fn names(server: &Server) -> Vec<String> {
    let list = server.get("/v1/models").json();
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_requests_model_may_be_an_adapter() {
    let (_dir, server) = serve(|_, _| {});
    assert_eq!(names(&server), ["base", "blue", "red"]);
    let red = server.get("/v1/models/red").json();
    assert_eq!((&red["parent"], &red["root"]), (&json!("base"), &json!("base")));
    assert!(red["created"].as_u64().unwrap() > 1_600_000_000);
    assert_eq!(server.get("/v1/models/base").json()["parent"], Value::Null);

    let texts = ["base", "red", "blue"].map(|name| said(&server, name));
    assert_eq!(texts, [None, Some("red"), Some("blue")].map(|name| expected(&server, name)));
    assert!(texts[0] != texts[1] && texts[1] != texts[2]);

    // Every endpoint names what was asked for, streamed or not.
    let messages = json!([{ "role": "user", "content": "the dog" }]);
    for (path, input, member) in [
        (CHAT, &messages, "messages"),
        ("/v1/responses", &json!("the dog"), "input"),
        (TEXT, &json!("the dog"), "prompt"),
    ] {
        let mut bodies =
            ["base", "red"].map(|model| json!({ "model": model, "temperature": 0, member: input }));
        let most = if path == "/v1/responses" { "max_output_tokens" } else { "max_tokens" };
        bodies.iter_mut().for_each(|body| body[most] = json!(16));
        let [base, red] = bodies.clone().map(|body| server.post(path, &body).json());
        assert_eq!((&base["model"], &red["model"]), (&json!("base"), &json!("red")), "{path}");
        let answer = |json: &Value| [&json["choices"], &json["output"][0]["content"]].map(Clone::clone);
        assert_ne!(answer(&base), answer(&red), "{path}");
        bodies[1]["stream"] = json!(true);
        let stream = server.post(path, &bodies[1]).body;
        assert!(stream.contains(r#""model":"red""#) && !stream.contains(r#""model":"base""#), "{stream}");
    }
    let vector =
        |model: &str| server.post("/v1/embeddings", &json!({ "model": model, "input": "the dog" })).json();
    let [base, red] = ["base", "red"].map(vector);
    assert_eq!(red["model"], "red");
    assert_ne!(base["data"][0]["embedding"], red["data"][0]["embedding"]);

    for (path, body) in [(TEXT, body("green")), ("/v1/embeddings", json!({ "model": "green", "input": "x" }))]
    {
        let reply = server.post(path, &body);
        assert_eq!(reply.status, 404);
        let error = &reply.json()["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
        assert_eq!(error["message"], "The model 'green' does not exist. This server has 'base'.");
    }
    assert_eq!(server.get("/v1/models/green").status, 404);

    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("alti_adapters 2\n"), "{metrics}");
    assert!(metrics.contains(r#"alti_model_sequences_total{model="blue"} 1"#), "{metrics}");
    let api = server.get("/openapi.json").json();
    for schema in ["ChatRequest", "CompletionRequest", "EmbeddingRequest", "ResponseRequest"] {
        let model = &api["components"]["schemas"][schema]["properties"]["model"]["enum"];
        let names: Vec<&str> = model.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(names, ["base", "blue", "red"], "{schema}");
    }
}

#[test]
fn nobody_loads_anything_unless_it_is_permitted() {
    let (dir, server) = serve(|_, _| {});
    let body = json!({ "lora_name": "green", "lora_path": dir.path().join("lora/green") });
    for path in [LOAD, UNLOAD] {
        let reply = server.post(path, &body);
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (404, &json!("unknown_url")));
        assert!(server.get("/openapi.json").json()["paths"].get(path).is_none());
    }
    assert_eq!(names(&server), ["base", "blue", "red"]);
}

#[test]
fn adapters_are_loaded_and_unloaded_while_requests_run() {
    let (dir, server) = permitted();
    let load = |name: &str, path: &str| server.post(LOAD, &json!({ "lora_name": name, "lora_path": path }));
    let reply = load("green", "green");
    assert_eq!(reply.status, 200, "{reply:?}");
    let api = server.get("/openapi.json").json();
    check_reply(&api, "post", LOAD, &reply);
    assert_eq!((&reply.json()["id"], &reply.json()["parent"]), (&json!("green"), &json!("base")));
    assert_eq!(names(&server), ["base", "blue", "green", "red"]);
    let green = said(&server, "green");
    assert_eq!(green, expected(&server, Some("green")));
    assert_ne!(green, said(&server, "red"));

    // What runs is finished with what it began with.
    let running = server.engine.submit(Request {
        adapter: Some("green".into()),
        ignore_end: true,
        ..Request::greedy(vec![1, 2, 3], 300)
    });
    let reply = server.post(UNLOAD, &json!({ "lora_name": "green" }));
    check_reply(&api, "post", UNLOAD, &reply);
    assert_eq!(reply.json(), json!({ "id": "green", "object": "model", "deleted": true }));
    assert_eq!(server.post(TEXT, &body("green")).status, 404);
    let ended = running.unwrap().iter().last();
    assert!(matches!(ended, Some(engine::Event::Done { .. })), "{ended:?}");
    let reply = server.post(UNLOAD, &json!({ "lora_name": "green" }));
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (404, &json!("lora_name")));

    // Loaded again under a whole path, from other files: another answer.
    adapter(&dir.path().join("lora/green"), 7);
    let whole = dir.path().join("lora/green");
    assert_eq!(load("green", whole.to_str().unwrap()).status, 200);
    let second = said(&server, "green");
    assert_ne!(second, green);

    // In place of the one that has the name; what runs goes on with the old one.
    let request = || Request { adapter: Some("green".into()), ..Request::greedy(vec![1, 2, 3], 300) };
    let running = server.engine.submit(request()).unwrap();
    server.wait_until("the answer", |stats| stats.completion_tokens > 0 && stats.running > 0);
    adapter(&whole, 8);
    let in_place = json!({ "lora_name": "green", "lora_path": "green", "load_inplace": true });
    let reply = server.post(LOAD, &in_place);
    check_reply(&api, "post", LOAD, &reply);
    assert_eq!(names(&server), ["base", "blue", "green", "red"]);
    let third = said(&server, "green");
    assert!(third != second && third == expected(&server, Some("green")));
    let mut ids = Vec::new();
    for event in running.iter() {
        match event {
            engine::Event::Token(token) => ids.push(token.id),
            event => assert!(matches!(event, engine::Event::Done { .. }), "{event:?}"),
        }
    }
    assert_ne!(ids, server.engine.complete(request()).unwrap().token_ids());
    // A name that is free is taken as without.
    let fresh = json!({ "lora_name": "new", "lora_path": "green", "load_inplace": true });
    assert_eq!(server.post(LOAD, &fresh).status, 200);
    assert_eq!(said(&server, "new"), third);
}

#[test]
fn what_cannot_be_loaded_is_refused_in_openais_shape() {
    let (dir, server) = permitted();
    std::fs::create_dir(dir.path().join("lora/empty")).unwrap();
    let far = dir.path().join("far");
    for (body, status, param, part) in [
        (json!({ "lora_name": "x", "lora_path": far }), 400, "lora_path", "no folder within those"),
        (json!({ "lora_name": "x", "lora_path": "../far" }), 400, "lora_path", "no folder within those"),
        (json!({ "lora_name": "x", "lora_path": "/nowhere" }), 400, "lora_path", "no folder within those"),
        (json!({ "lora_name": "x", "lora_path": "empty" }), 400, "lora_path", "adapter_config.json"),
        (json!({ "lora_name": "red", "lora_path": "green" }), 400, "lora_path", "is loaded already"),
        (json!({ "lora_name": "base", "lora_path": "green" }), 400, "lora_name", "the model itself"),
        (json!({ "lora_name": "x" }), 400, "lora_path", "Missing"),
        (json!({ "lora_path": "green" }), 400, "lora_name", "Missing"),
        (json!({ "lora_name": 3, "lora_path": "green" }), 400, "lora_name", "a string"),
        (
            json!({ "lora_name": "x", "lora_path": "green", "load_inplace": "yes" }),
            400,
            "load_inplace",
            "a boolean",
        ),
        (
            json!({ "lora_name": "red", "lora_path": "empty", "load_inplace": true }),
            400,
            "lora_path",
            "adapter_config.json",
        ),
    ] {
        let reply = server.post(LOAD, &body);
        let error = &reply.json()["error"];
        assert_eq!((reply.status, error["param"].as_str()), (status, Some(param)), "{body}: {reply:?}");
        assert!(error["message"].as_str().unwrap().contains(part), "{body}: {error}");
    }
    assert_eq!(names(&server), ["base", "blue", "red"]);
}

#[test]
fn loading_needs_a_key_where_there_are_keys() {
    let (_dir, server) = serve(|info, dir| {
        info.settings.adapter_folders = vec![dir.join("lora")];
        info.api_keys = ["key".to_owned()].into_iter().collect();
    });
    let body = json!({ "lora_name": "green", "lora_path": "green" });
    assert_eq!(server.post(LOAD, &body).status, 401);
    assert_eq!(server.post(UNLOAD, &json!({ "lora_name": "red" })).status, 401);
    assert_eq!(server.engine.adapters().len(), 2);
}
