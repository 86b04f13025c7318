//! The header and the C# declarations are those of the sources. `AFTERIMAGE_UPDATE_HEADER=1` writes them anew.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn place(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Holds the file to `made`, or writes it.
#[track_caller]
fn hold(relative: &str, made: &str) {
    let path = place(relative);
    if env::var_os("AFTERIMAGE_UPDATE_HEADER").is_some() {
        fs::write(path, made).unwrap();
        return;
    }
    let checked_in = fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == made,
        "`{relative}` is not made of these sources: run with AFTERIMAGE_UPDATE_HEADER=1"
    );
}

#[test]
fn the_header_is_made_of_the_sources() {
    let config = cbindgen::Config::from_file(place("cbindgen.toml")).unwrap();
    let bindings = cbindgen::generate_with_config(place(""), config).unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    hold("include/afterimage.h", &String::from_utf8(made).unwrap());
}

#[test]
fn the_c_sharp_declarations_are_made_of_the_sources() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Native.g.cs");
    let mut files: Vec<_> = fs::read_dir(place("src")).unwrap().collect();
    files.sort_by_key(|file| file.as_ref().unwrap().path());
    let builder = csbindgen::Builder::default();
    let builder = files.iter().fold(builder, |builder, file| {
        builder.input_extern_file(file.as_ref().unwrap().path())
    });
    let builder = builder
        .csharp_dll_name("afterimage_c")
        .csharp_namespace("Afterimage")
        .csharp_class_name("Native")
        .csharp_class_accessibility("public")
        .csharp_use_function_pointer(false);
    builder.generate_csharp_file(&path).unwrap();
    hold("csharp/Native.g.cs", &fs::read_to_string(&path).unwrap());
}
