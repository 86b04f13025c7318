//! Cache rules, plans and routers, and the other words of the command line.

use afterimage::cache::{CacheRule, Course, Router};
use afterimage::denoiser::{Blueprint, BranchCost, Cell, Rows};
use afterimage::device::{DeviceChoice, DtypeChoice};
use afterimage::evaluation::Shard;
use afterimage::pipeline::Residency;
use afterimage::recall::Branch;
use afterimage::samplers::SamplerKind;
use afterimage::weights::{ActivationFormat, WeightFormat};

use super::{bounded, folder, is_torch, shown};

const BRANCHES: [Branch; 3] = [
    Branch::SelfAttention,
    Branch::CrossAttention,
    Branch::FeedForward,
];

fn cell(pushes: u64, pops: bool, branches: &[Branch]) -> Cell {
    let branches = branches.iter().map(|&branch| BranchCost {
        branch,
        macs: 10,
        elements: 4,
    });
    Cell {
        name: "cell".to_owned(),
        macs: 100,
        hidden: 16,
        pushes,
        pops,
        branches: branches.collect(),
        working: 64,
        context: 8,
        ungated: 0,
    }
}

fn trunk(cells: Vec<Cell>) -> Blueprint {
    Blueprint {
        cells,
        prepare_macs: 5,
        leave_macs: 5,
        prediction: 4,
    }
}

/// A small `UNet`.
fn unet() -> Blueprint {
    let mut cells: Vec<_> = (0..4).map(|_| cell(16, false, &BRANCHES)).collect();
    cells.push(cell(0, false, &BRANCHES));
    cells.extend((0..4).map(|_| cell(0, true, &BRANCHES)));
    trunk(cells)
}

/// A small transformer.
fn line() -> Blueprint {
    let branches = [Branch::SelfAttention, Branch::FeedForward];
    trunk((0..6).map(|_| cell(0, false, &branches)).collect())
}

/// A rule's text: read, written and read again, and planned for runs of several lengths.
pub(super) fn rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // A rule may name a router's file, and a device's file may never end.
    if text.contains("router=/dev") || text.contains("router=/proc") {
        return;
    }
    bounded(data, || {
        words(text);
        let Some(rule) = shown(text.parse::<CacheRule>()) else {
            return;
        };
        let written = rule.to_string();
        let again = shown(written.parse::<CacheRule>());
        assert_eq!(again, Some(rule.clone()), "{written}");
        for steps in [1, 2, 20, 50, 250] {
            planned(&rule, &Course::steps(steps));
        }
        planned(&rule, &Course::grouped([0, 0, 1, 1, 2]));
        planned(&rule, &Course::grouped([]));
    });
}

fn planned(rule: &CacheRule, course: &Course) {
    for trunk in [unet(), line()] {
        let Some(plan) = shown(rule.plan(course, &trunk)) else {
            continue;
        };
        assert_eq!(plan.evaluations(), course.evaluations());
        let rows = Rows::new(2, 1);
        let forecast = plan.forecast(&trunk, rows, 4);
        assert!(forecast.total_macs() > 0 && forecast.speedup().is_finite());
        for warning in &plan.warnings {
            assert!(!warning.to_string().is_empty());
        }
    }
}

/// Everything else that is one word.
fn words(text: &str) {
    shown(text.parse::<SamplerKind>());
    shown(text.parse::<WeightFormat>());
    shown(text.parse::<ActivationFormat>());
    shown(text.parse::<DeviceChoice>());
    shown(text.parse::<DtypeChoice>());
    shown(text.parse::<Residency>());
    if let Some(shard) = shown(text.parse::<Shard>()) {
        assert!(shard.batches(10).count() <= 10);
    }
}

/// A router's file.
pub(super) fn routers(data: &[u8]) {
    let name = if is_torch(data) {
        "router.pt"
    } else {
        "router.safetensors"
    };
    let folder = folder(&[(name, data)]);
    let path = folder.path().join(name);
    bounded(data, || {
        let Some(router) = shown(Router::read(&path, 0.1)) else {
            return;
        };
        let rule = CacheRule::learning_to_cache(router.clone());
        for steps in [router.scores().len(), 2] {
            planned(&rule, &Course::steps(steps));
        }
        let copy = folder.path().join("copy.safetensors");
        let file = std::fs::File::create(&copy).expect("a file");
        router.write(file).expect("a file");
        let again = shown(Router::read(&copy, 0.1)).expect("the router");
        assert_eq!(again.scores().len(), router.scores().len());
    });
}
