//! `/v1/models`: the model and the adapters over it, each under a name that requests can ask for; and, where the settings
//! permit it, adapters loaded and unloaded by clients, with vLLM's requests.

use std::path::{Path as FilePath, PathBuf};

use axum::extract::{Path, Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::AdapterInfo;
use serde_json::{Value, json};

use crate::ServeInfo;
use crate::api_error::ApiError;
use crate::fields::Fields;
use crate::http::{App, off_runtime, read_json};

/// What a request asks for by its `model`.
pub(crate) struct Named {
    /// As answers show it.
    pub(crate) model: String,
    /// The adapter of that name; none: the model as it is.
    pub(crate) adapter: Option<String>,
}

impl Named {
    /// OpenAI requires the name; here it may be left out, and means the model as it is.
    pub(crate) fn read(fields: &Fields, app: &App) -> Result<Self, ApiError> {
        match fields.string("model")? {
            Some(name) if name != app.info.model => {
                adapter(app, name)?;
                Ok(Named { model: name.into(), adapter: Some(name.into()) })
            }
            _ => Ok(Named { model: app.info.model.clone(), adapter: None }),
        }
    }
}

/// Those of this server.
pub(crate) fn routes(info: &ServeInfo) -> Router<App> {
    let routes = Router::new().route("/v1/models", get(models)).route("/v1/models/{*id}", get(model));
    if info.settings.adapter_folders.is_empty() {
        return routes;
    }
    routes.route("/v1/load_lora_adapter", post(load)).route("/v1/unload_lora_adapter", post(unload))
}

async fn models(State(app): State<App>) -> Json<Value> {
    let adapters = app.engine.adapters().into_iter().map(|adapter| describe_adapter(&app, &adapter));
    let data: Vec<Value> = std::iter::once(describe(&app)).chain(adapters).collect();
    Json(json!({ "object": "list", "data": data }))
}

async fn model(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    if id == app.info.model {
        return Ok(Json(describe(&app)));
    }
    Ok(Json(describe_adapter(&app, &adapter(&app, &id)?)))
}

/// The adapter of a name, or the 404 that it is none.
fn adapter(app: &App, name: &str) -> Result<AdapterInfo, ApiError> {
    app.engine.adapter(name).map_err(|_| unknown(name, &app.info.model))
}

/// 404, with the name that would have been right.
fn unknown(name: &str, model: &str) -> ApiError {
    let shown: String = name.chars().take(100).collect();
    ApiError::no_model(format!("The model '{shown}' does not exist. This server has '{model}'."))
}

fn describe(app: &App) -> Value {
    let ServeInfo { model, created, owned_by, .. } = &*app.info;
    // `max_model_len` is vLLM's; clients that budget their prompts look for it.
    let context = app.engine.context();
    json!({
        "id": model, "object": "model", "created": created, "owned_by": owned_by, "max_model_len": context,
        "root": model, "parent": null,
    })
}

/// Where vLLM shows the adapter's path as its root, this shows the model: paths are the server's own business.
fn describe_adapter(app: &App, adapter: &AdapterInfo) -> Value {
    let mut model = describe(app);
    model["id"] = json!(adapter.name);
    model["created"] = json!(adapter.loaded);
    model["parent"] = json!(app.info.model);
    model
}

async fn load(State(app): State<App>, request: Request) -> Result<Json<Value>, ApiError> {
    let body = read_json(&app.info, request).await?;
    let fields = Fields::of_body(&body)?;
    let name = fields.string("lora_name")?.ok_or_else(|| fields.missing("lora_name"))?.to_owned();
    let path = fields.string("lora_path")?.ok_or_else(|| fields.missing("lora_path"))?.to_owned();
    let in_place = fields.boolean("load_inplace")?.unwrap_or(false);
    if name == app.info.model {
        let message = format!("Invalid 'lora_name': '{name}' is the model itself.");
        return Err(ApiError::invalid(Some("invalid_value"), message).at("lora_name"));
    }
    let told = app.clone();
    off_runtime(move || {
        let folder = permitted(&told.info.settings.adapter_folders, &path).ok_or_else(|| {
            let message = format!(
                "Invalid 'lora_path': '{}' is no folder within those that adapters may be loaded from.",
                path.chars().take(200).collect::<String>()
            );
            ApiError::invalid(Some("invalid_value"), message).at("lora_path")
        })?;
        let loaded = if in_place {
            told.engine.replace_adapter(&name, &folder)
        } else {
            told.engine.load_adapter(&name, &folder)
        };
        loaded.map_err(|error| ApiError::from_engine(error, "lora_path", 0))?;
        Ok(Json(describe_adapter(&told, &adapter(&told, &name)?)))
    })
    .await
}

async fn unload(State(app): State<App>, request: Request) -> Result<Json<Value>, ApiError> {
    let body = read_json(&app.info, request).await?;
    let fields = Fields::of_body(&body)?;
    let name = fields.string("lora_name")?.ok_or_else(|| fields.missing("lora_name"))?;
    app.engine.unload_adapter(name).map_err(|_| unknown(name, &app.info.model).at("lora_name"))?;
    Ok(Json(json!({ "id": name, "object": "model", "deleted": true })))
}

/// The folder that a client means, if it lies within one of `folders`, links followed. A path that is not whole is looked for
/// in each. What does not exist and what lies elsewhere look the same from outside.
fn permitted(folders: &[PathBuf], path: &str) -> Option<PathBuf> {
    folders.iter().filter_map(|folder| folder.canonicalize().ok()).find_map(|folder| {
        let found = folder.join(FilePath::new(path)).canonicalize().ok()?;
        (found.is_dir() && found != folder && found.starts_with(&folder)).then_some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_within_those_that_are_permitted_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            path.canonicalize().unwrap()
        };
        let (inside, deeper, outside) = (make("lora/a"), make("more/b/c"), make("secret/d"));
        std::fs::write(dir.path().join("lora/file"), "").unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join("lora/link")).unwrap();
        let folders = ["lora", "more", "gone"].map(|folder| dir.path().join(folder));
        let whole = |path: &FilePath| path.to_string_lossy().into_owned();
        for (path, wanted) in [
            ("a".to_owned(), Some(&inside)),
            ("b/c".to_owned(), Some(&deeper)),
            ("b/../b/c".to_owned(), Some(&deeper)),
            (whole(&inside), Some(&inside)),
            (whole(&outside), None),
            ("../secret/d".to_owned(), None),
            ("link".to_owned(), None),
            ("file".to_owned(), None),
            ("nothing".to_owned(), None),
            (String::new(), None),
            (".".to_owned(), None),
            (whole(&folders[0]), None),
            ("a\0b".to_owned(), None),
        ] {
            assert_eq!(permitted(&folders, &path).as_ref(), wanted, "{path:?}");
        }
        assert_eq!(permitted(&[], "a"), None);
    }
}
