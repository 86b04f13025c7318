//! One request with and without caching.

use afterimage::{
    Error, cache::CacheRule, image_io::Picture, pipeline::Pipeline, pipeline::Request,
};

/// The first picture of a request.
pub(crate) fn picture(model: &Pipeline, request: &Request) -> Result<Picture, Error> {
    Ok(model.generate(request, &mut ())?.pictures()?.swap_remove(0))
}

/// The request's picture, and the one that reuses what barely changes between steps.
pub(crate) fn pair(model: &Pipeline, request: Request) -> Result<[Picture; 2], Error> {
    let plain = picture(model, &request)?;
    let cached = Request {
        cache: CacheRule::deepcache(3, 0),
        ..request
    };
    Ok([plain, picture(model, &cached)?])
}
