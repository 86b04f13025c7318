//! Models as clients see them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::{
    fault::Fault,
    server::{Server, Shared},
    shelf::name_of,
};
use crate::{
    catalog::{ModelFolder, Overrides},
    device,
    engine::{Model, Reading},
    error::{Error, RequestError},
    pipeline::{Films, ModelConfig, SourceConfig, check_weights},
};

/// Refuses the first of the operator's models that is on this machine and cannot be opened, or is not there, or has not the weights of its
/// configuration, or is called as another. What is still to be fetched is not looked at.
pub(super) fn check(places: &[String]) -> Result<(), Error> {
    check_names(places)?;
    for place in places {
        if let Some(folder) = ModelFolder::open_present(place)? {
            let config = ModelConfig::read(&folder).map_err(|error| folder.located(error))?;
            check_weights(&folder, &config, &device::for_shapes()?)?;
        }
    }
    Ok(())
}

/// Refuses a model that has the name of another before it, as no request could ask for both.
fn check_names(places: &[String]) -> Result<(), RequestError> {
    let mut named = BTreeMap::new();
    for place in places {
        let name = name_of(place.as_ref());
        if named
            .insert(name, place)
            .is_some_and(|other| other != place)
        {
            return Err(RequestError::ServeOption {
                what: "model of a name of its own",
                given: place.clone(),
                hint: "one before it is called the same: rename its folder or file, or name it by a link",
            });
        }
    }
    Ok(())
}

/// List the models
#[utoipa::path(get, operation_id = "listModels", path = "/v1/models", tag = "openai", responses(
    (status = 200, description = "Models, as OpenAI lists them"),
    (status = "4XX", description = "Refused")))]
pub(super) async fn list(State(server): Shared) -> Result<Json<Value>, Fault> {
    let names = server.shelf().models().to_vec();
    let mut data = Vec::new();
    for name in names {
        data.push(seen(&server, name).await?);
    }
    Ok(Json(json!({"object": "list", "data": data})))
}

/// Look at a model
#[utoipa::path(get, operation_id = "getModel", path = "/v1/models/{id}", tag = "openai", params(("id" = String, Path)), responses(
    (status = 200, description = "The model"),
    (status = "4XX", description = "Refused")))]
pub(super) async fn show(
    State(server): Shared,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let name = server.shelf().model(Some(&id))?.0.to_owned();
    Ok(Json(seen(&server, name).await?))
}

/// What there is to say of a model.
async fn seen(server: &Arc<Server>, name: String) -> Result<Value, Fault> {
    let mut model = described(server, &name).await?;
    model["loaded"] = server
        .loaded()
        .iter()
        .any(|(_, loaded)| *loaded == name)
        .into();
    model["default"] = (server.shelf().models().first() == Some(&name)).into();
    Ok(model)
}

/// What its configurations say, read once.
pub(super) async fn described(server: &Arc<Server>, name: &str) -> Result<Value, Fault> {
    if let Some(known) = server.described().get(name) {
        return Ok(known.clone());
    }
    let place = server.shelf().model(Some(name))?.1.to_owned();
    let asked = name.to_owned();
    let described = server.aside(move |_| Ok(read(&asked, &place))).await?;
    server
        .described()
        .insert(name.to_owned(), described.clone());
    Ok(described)
}

fn read(name: &str, place: &str) -> Value {
    let mut seen = json!({"id": name, "object": "model", "created": 0, "owned_by": "afterimage"});
    match Model::open(
        Some(place),
        Overrides::default(),
        Reading::Configurations,
        &mut (),
    ) {
        Ok(model) => describe(&mut seen, &model),
        Err(error) => {
            let fault = Fault::from(error).with_names(&[(place.to_owned(), name.to_owned())]);
            seen["error"] = json!({"message": fault.message, "hint": fault.hint});
        }
    }
    seen
}

fn describe(seen: &mut Value, model: &Model) {
    let config = &model.config;
    let canvas = config.canvas();
    let [height, width] = canvas.sides.map(|side| side * canvas.factor);
    let kind = match &config.source {
        _ if config.upscale.is_some() => "picture",
        SourceConfig::Classes(_) => "class",
        SourceConfig::Picture(_) => "picture",
        SourceConfig::Nothing => "nothing",
        _ => "text",
    };
    seen["kind"] = kind.into();
    seen["size"] = json!([width, height]);
    seen["multiple"] = config.multiple().into();
    seen["steps"] = config.defaults.steps.into();
    seen["guidance_scale"] = config.defaults.guidance_scale.into();
    seen["sampler"] = config.sampler.name().into();
    seen["films"] = (!matches!(config.films(), Films::Never)).into();
    seen["hash"] = model.folder.weights_hash().ok().into();
}
