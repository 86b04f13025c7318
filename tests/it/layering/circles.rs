//! No circles inside rooms: of two files of one folder, at most one uses the other, however many files lie between.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, grow, paths, sources};

/// Who uses whom among the files and folders of one folder.
type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn rooms_have_no_circles() {
    let sources = sources(&["src"]);
    let mut found = Vec::new();
    for room in rooms(&sources) {
        for circle in circles(&uses(&room, &sources)) {
            found.push((room.join("/"), circle));
        }
    }
    assert!(found.is_empty(), "circles of files: {found:#?}");
}

/// Every module with files below it.
fn rooms(sources: &[Source]) -> BTreeSet<Vec<String>> {
    let parents = sources.iter().filter_map(|source| {
        let mut module = source.module();
        module.pop()?;
        Some(module)
    });
    parents.filter(|room| !room.is_empty()).collect()
}

fn uses(room: &[String], sources: &[Source]) -> Uses {
    let member = |module: &[String]| {
        let below = module.strip_prefix(room)?;
        below.first().cloned()
    };
    let members: BTreeSet<String> = sources
        .iter()
        .filter_map(|source| member(&source.module()))
        .collect();
    let front = sources.iter().find(|source| source.module() == room);
    let names = front.map_or_else(BTreeMap::new, |front| exported(front, &members));
    let mut uses = Uses::new();
    for source in sources {
        let Some(user) = member(&source.module()) else {
            continue;
        };
        for path in absolute(source) {
            let Some(next) = member(&path) else { continue };
            let used = if members.contains(&next) {
                Some(&next)
            } else {
                names.get(&next)
            };
            if let Some(used) = used.filter(|used| **used != user) {
                uses.entry(user.clone()).or_default().insert(used.clone());
            }
        }
    }
    uses
}

/// The names that a room's front takes from its files: `pub use choice::{Backend, DeviceChoice}`.
fn exported(front: &Source, members: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for (index, _) in front.code.match_indices("use ") {
        let mut found = Vec::new();
        grow(&front.code[index + 4..], &mut Vec::new(), &mut found);
        for path in found {
            let (Some(first), Some(last)) = (path.first(), path.last()) else {
                continue;
            };
            if members.contains(first) && path.len() > 1 {
                names.insert(last.clone(), first.clone());
            }
        }
    }
    names
}

/// Every path of the crate that a file names, from the crate's root.
fn absolute(source: &Source) -> Vec<Vec<String>> {
    let code = source.shipped();
    let mut found = paths(&code, "crate");
    let module = source.module();
    for path in paths(&code, "super") {
        let ups = 1 + path.iter().take_while(|word| *word == "super").count();
        let stem = &module[..module.len().saturating_sub(ups)];
        found.push([stem, &path[ups - 1..]].concat());
    }
    found
}

/// Groups of more than one that all reach each other.
fn circles(uses: &Uses) -> Vec<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> = uses
        .keys()
        .map(|name| (name, reached(name, uses)))
        .collect();
    let mut found = BTreeSet::new();
    for (name, others) in &reach {
        let circle: BTreeSet<&String> = others
            .iter()
            .filter(|other| reach.get(**other).is_some_and(|back| back.contains(name)))
            .copied()
            .collect();
        if circle.len() > 1 {
            found.insert(circle.into_iter().cloned().collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

fn reached<'a>(name: &String, uses: &'a Uses) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = uses.get(name).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(uses.get(next).into_iter().flatten());
        }
    }
    reached
}

#[test]
fn circles_are_found_over_any_length() {
    let uses = |pairs: &[(&str, &str)]| {
        let mut uses = Uses::new();
        for (user, used) in pairs {
            let of = uses.entry((*user).to_owned()).or_default();
            of.insert((*used).to_owned());
        }
        uses
    };
    assert!(circles(&uses(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    let round = uses(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]);
    assert_eq!(circles(&round), [["a", "b", "c"]]);
}
