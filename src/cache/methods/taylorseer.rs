//! `taylorseer`: attention is forecast by a series between full evaluations.
//!
//! **Source**: `TaylorSeer` (arXiv 2503.06923), with the settings of diffusers, whose names stand beside them.

use super::method::Method;
use crate::{
    cache::{
        branches::BranchRule,
        options::{Options, wrong},
        predictor::Predictor,
        rule::CacheRule,
        series::{Series, Sites},
    },
    error::Error,
};

pub(super) const METHOD: Method = Method {
    name: "taylorseer",
    example: "taylorseer:interval=5,warmup=3,order=1",
    help: "everything but attention, which is forecast; sites=attention+mlp forecasts the feed-forward layers too, sites=output all of it",
    read,
    text,
};

/// Which outputs are forecast, by name.
const SITES: [(&str, Sites); 3] = [
    ("attention", Sites::Attention),
    ("attention+mlp", Sites::AttentionAndFeedForward),
    ("output", Sites::Output),
];

fn read(options: &mut Options<'_>) -> Result<CacheRule, Error> {
    let interval = options.count("interval")?.unwrap_or(5);
    let warmup = options.count("warmup")?.unwrap_or(3);
    let order = options.take("order").unwrap_or("1");
    let predictor = format!("taylorseer:{order}").parse();
    let predictor: Predictor =
        predictor.map_err(|_| wrong("order", order, "it must be a whole number from 0 to 8"))?;
    let until = options.count("until")?;
    let sites = options.take("sites").map_or(Ok(Sites::Attention), sites)?;
    Ok(CacheRule::taylorseer(Series {
        interval,
        warmup,
        until,
        order: predictor.order(),
        sites,
    }))
}

fn sites(text: &str) -> Result<Sites, Error> {
    let found = SITES.iter().find(|(name, _)| *name == text);
    found
        .map(|&(_, sites)| sites)
        .ok_or_else(|| wrong("sites", text, "one of attention, attention+mlp, output"))
}

fn text(rule: &CacheRule) -> Option<String> {
    let Some(BranchRule::Series(series)) = &rule.branches else {
        return None;
    };
    let Series {
        interval,
        warmup,
        until,
        order,
        sites,
    } = series;
    let until = until.map_or_else(String::new, |until| format!(",until={until}"));
    let named = SITES.iter().filter(|(_, one)| *one != Sites::Attention);
    let mut named = named.filter(|(_, one)| one == sites);
    let sites = named
        .next()
        .map_or_else(String::new, |(name, _)| format!(",sites={name}"));
    Some(format!(
        "taylorseer:interval={interval},warmup={warmup},order={order}{until}{sites}"
    ))
}

impl CacheRule {
    /// `TaylorSeer`: between full evaluations, outputs of attention layers, or of more, are forecast.
    pub fn taylorseer(series: Series) -> Self {
        Self::none().with_branches(BranchRule::Series(series))
    }
}
