//! The OpenAPI document against the server: every route is there, every answer has the shape that is told, and every bound
//! and type of a parameter is refused one beyond. The document itself says what is tried.

use serde_json::{Map, Value, json};

use crate::client::{CHAT, Reply, Server, TEXT, post};

const EMBEDDINGS: &str = "/v1/embeddings";
const RESPONSES: &str = "/v1/responses";

/// What is wrong with `value` under `schema`: the keywords that the document uses, and no others.
fn faults(api: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    let schema = follow(api, schema);
    let keywords = schema.as_object().unwrap_or_else(|| panic!("{at}: no schema"));
    let is = |kind: &str| match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        other => panic!("{at}: the type {other} is not known"),
    };
    for (keyword, told) in keywords {
        let good = match keyword.as_str() {
            // The rules of what may stand beside what are a test of their own.
            "description" | "default" | "items" | "propertyNames" | "allOf" => true,
            // Bounds are tried by going beyond them.
            "minimum" | "maximum" | "minItems" | "maxItems" | "maxProperties" => true,
            "type" => match told {
                Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
                kind => is(kind.as_str().unwrap()),
            },
            "const" => value == told,
            "enum" => told.as_array().unwrap().contains(value),
            "required" => {
                let names = told.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                value.is_null() || names.into_iter().all(|name| value.get(name).is_some())
            }
            "anyOf" => told.as_array().unwrap().iter().any(|schema| {
                let mut wrong = Vec::new();
                faults(api, schema, value, at, &mut wrong);
                wrong.is_empty()
            }),
            "properties" => {
                for (name, schema) in told.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        faults(api, schema, value, &format!("{at}.{name}"), out);
                    }
                }
                true
            }
            "additionalProperties" => {
                let members = value.as_object().into_iter().flatten();
                members.for_each(|(name, value)| faults(api, told, value, &format!("{at}.{name}"), out));
                true
            }
            other => panic!("{at}: the keyword {other} is not known"),
        };
        if !good {
            out.push(format!("{at}: {value} is not {keyword} {told}"));
        }
    }
    if let (Some(items), Value::Array(values)) = (keywords.get("items"), value) {
        let items_of = |(index, value): (usize, &Value)| (format!("{at}[{index}]"), value.clone());
        for (at, value) in values.iter().enumerate().map(items_of) {
            faults(api, items, &value, &at, out);
        }
    }
}

fn follow<'a>(api: &'a Value, schema: &'a Value) -> &'a Value {
    let Some(path) = schema.get("$ref") else { return schema };
    let path = path.as_str().unwrap().strip_prefix('#').unwrap();
    api.pointer(path).unwrap_or_else(|| panic!("{path} is not there"))
}

#[track_caller]
fn check(api: &Value, schema: &Value, value: &Value) {
    let mut out = Vec::new();
    faults(api, schema, value, "", &mut out);
    assert!(out.is_empty(), "{out:#?} in {value}");
}

/// The reply is one that the document tells of.
#[track_caller]
pub fn check_reply(api: &Value, method: &str, route: &str, reply: &Reply) {
    let told = &api["paths"][route][method]["responses"][reply.status.to_string()];
    assert!(told.is_object(), "{method} {route} tells nothing of {}", reply.status);
    let kind = reply.header("content-type").unwrap().split(';').next().unwrap();
    let schema = &told["content"][kind]["schema"];
    assert!(schema.is_object(), "{method} {route} {} tells nothing of {kind}", reply.status);
    if kind == "application/json" {
        check(api, schema, &reply.json());
    }
    for header in told["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
        assert!(reply.header(header).is_some(), "{method} {route}: no {header}");
    }
}

fn request(method: &str, path: &str) -> String {
    format!("{} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method.to_uppercase())
}

fn good(route: &str) -> Map<String, Value> {
    let body = match route {
        CHAT => {
            json!({ "messages": [{ "role": "user", "content": "the dog" }], "logprobs": true, "top_logprobs": 2 })
        }
        TEXT => json!({ "prompt": "the dog", "max_tokens": 3, "logprobs": 2 }),
        EMBEDDINGS => json!({ "input": "the dog" }),
        RESPONSES => json!({ "input": "the dog", "top_logprobs": 2 }),
        "/tokenize" => json!({ "prompt": "the dog", "return_token_strs": true }),
        "/detokenize" => json!({ "tokens": [1, 2] }),
        other => panic!("{other} is not tried"),
    };
    body.as_object().unwrap().clone()
}

#[test]
fn every_route_is_described_and_every_described_route_is_there() {
    let server = Server::start();
    let api = server.get("/openapi.json").json();
    assert_eq!(api["openapi"], "3.1.0");
    let paths = api["paths"].as_object().unwrap();
    for (route, methods) in paths {
        let stored = server.post(RESPONSES, &json!({ "input": "x" })).json();
        let id = if route.contains("responses") { stored["id"].as_str().unwrap() } else { "parrot" };
        for method in ["get", "post", "delete"] {
            let path = route.replace("{id}", id);
            let reply = match method {
                "post" if methods.get(method).is_some() => server.post(&path, &Value::Object(good(route))),
                _ => server.send(&request(method, &path)),
            };
            if methods.get(method).is_some() {
                assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
                check_reply(&api, method, route, &reply);
            } else {
                assert_eq!(reply.status, 405, "{method} {path} is not described");
            }
        }
    }
    // The server's own list of routes, from its metrics: every one of them has been asked.
    let metrics = server.get("/metrics").body;
    let asked = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("alti_requests_total{endpoint=\"")?.split('"').next());
    for route in asked {
        assert!(paths.contains_key(&route.replace("{*id}", "{id}")), "{route} is not described");
    }
    let source = concat!(include_str!("../../src/http.rs"), include_str!("../../src/models.rs"));
    // Two are there for those who may load adapters.
    assert_eq!(source.matches(".route(\"").count(), paths.len() + 2);
    let operations: Vec<&Value> =
        paths.values().flat_map(|methods| methods.as_object().unwrap().values()).collect();
    for operation in operations.iter().filter(|operation| operation.is_object()) {
        assert!(operation["operationId"].is_string() && operation["tags"][0].is_string(), "{operation}");
    }
}

#[test]
fn events_of_streams_have_the_shape_that_is_told() {
    let server = Server::start();
    let api = server.get("/openapi.json").json();
    for (route, schema) in [(CHAT, "ChatCompletionChunk"), (TEXT, "Completion"), (RESPONSES, "ResponseEvent")]
    {
        let mut body = good(route);
        body.insert("stream".into(), json!(true));
        let reply = server.post(route, &Value::Object(body));
        check_reply(&api, "post", route, &reply);
        let data = reply.body.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> =
            data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect();
        assert!(events.len() > 2);
        events.iter().for_each(|event| check(&api, &api["components"]["schemas"][schema], event));
    }
}

#[test]
fn every_bound_and_type_of_a_parameter_is_refused_one_beyond() {
    let server = Server::start();
    let api = server.get("/openapi.json").json();
    let mut tried = 0;
    for route in [CHAT, TEXT, RESPONSES, EMBEDDINGS] {
        let told = &api["paths"][route]["post"]["requestBody"]["content"]["application/json"]["schema"];
        let schema = follow(&api, told);
        check(&api, schema, &Value::Object(good(route)));
        for (name, member) in schema["properties"].as_object().unwrap() {
            let mut beyond = Vec::new();
            // Of no parameter's type at once: an object for those that are none, a number for those.
            let kinds = [&member["type"]].into_iter().chain(member["type"].as_array().into_iter().flatten());
            let is_object = kinds.clone().any(|kind| kind == "object");
            beyond.push(if is_object { json!(7) } else { json!({}) });
            if let Some(least) = member.get("minimum") {
                beyond.push(json!(least.as_f64().unwrap() as i64 - 1));
            }
            if let Some(most) = member.get("maximum") {
                beyond.push(json!(most.as_f64().unwrap() as i64 + 1));
            }
            if let Some(most) = member.get("maxItems") {
                let one = if member["items"].get("const").is_some() {
                    &member["items"]["const"]
                } else {
                    &json!("x")
                };
                beyond.push(json!(vec![one; most.as_u64().unwrap() as usize + 1]));
            }
            if member.get("minItems").is_some() {
                beyond.push(json!([]));
            }
            if let Some(most) = member.get("maxProperties") {
                let many = (0..=most.as_u64().unwrap()).map(|number| (number.to_string(), json!("x")));
                beyond.push(Value::Object(many.collect()));
            }
            for value in beyond {
                let mut body = good(route);
                body.insert(name.clone(), value.clone());
                let reply = server.post(route, &Value::Object(body));
                // A wrong name of a model is no wrong parameter but a missing model.
                assert_eq!(reply.status, 400, "{route} {name}: {value} {reply:?}");
                let param = reply.json()["error"]["param"].as_str().unwrap().to_owned();
                assert!(
                    param == *name || param.starts_with(&format!("{name}.")),
                    "{route} {value} {reply:?}"
                );
                check_reply(&api, "post", route, &reply);
                tried += 1;
            }
            // A member that needs another is refused without it.
            let rules = schema["allOf"].as_array().into_iter().flatten();
            for rule in rules.filter(|rule| rule["else"]["properties"].get(name).is_some()) {
                let mut body = good(route);
                let flag = rule["if"]["required"][0].as_str().unwrap();
                body.remove(flag);
                body.insert(name.clone(), if member["type"][0] == "object" { json!({}) } else { json!(1) });
                let reply = server.post(route, &Value::Object(body.clone()));
                assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(name)), "{reply:?}");
                body.insert(flag.to_owned(), json!(true));
                assert_eq!(
                    server.post(route, &Value::Object(body)).status,
                    200,
                    "{route} {name} with {flag}"
                );
                tried += 1;
            }
            // `null` is the same as leaving it out, but for what must be there.
            let mut body = good(route);
            body.insert(name.clone(), Value::Null);
            let must = schema["required"].as_array().unwrap().contains(&json!(name));
            let needs_other = name == "logprobs" && route == CHAT;
            let status = if must || needs_other { 400 } else { 200 };
            assert_eq!(server.post(route, &Value::Object(body)).status, status, "{route} {name}: null");
        }
    }
    assert!(tried > 80, "{tried}");
}

#[test]
fn errors_are_told_of() {
    let server = Server::with(std::time::Duration::ZERO, |_, info| {
        info.api_keys = ["sesame"].into_iter().collect();
        info.settings.max_body_bytes = 1000;
    });
    let api = server.get("/openapi.json").json();
    assert_eq!(api["components"]["securitySchemes"]["key"]["scheme"], "bearer");
    let key = "Authorization: Bearer sesame\r\n";
    for (route, status, reply) in [
        (CHAT, 401, server.post(CHAT, &json!({}))),
        (CHAT, 413, server.send(&post(CHAT, key, &" ".repeat(2000)))),
        (TEXT, 400, server.send(&post(TEXT, key, "{"))),
        (TEXT, 404, server.send(&post(TEXT, key, "{\"model\": \"none\"}"))),
        (TEXT, 415, server.send(&post(TEXT, key, "{}").replace("application/json", "text/plain"))),
    ] {
        assert_eq!(reply.status, status);
        check_reply(&api, "post", route, &reply);
    }
    // What needs no key says so, and the rest does need one.
    for (route, methods) in api["paths"].as_object().unwrap() {
        let open = methods["get"]["security"] == json!([]);
        if methods.get("get").is_some() {
            assert_eq!(server.get(&route.replace("{id}", "x")).status == 401, !open, "{route}");
        }
    }
}
