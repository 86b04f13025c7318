//! Every parser on the inputs that once broke it, on the fuzzer's seeds, and on what is made to exhaust memory.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::fixture::{fixture, root};
use crate::parsers::blind::{Random, changed, words};
use crate::parsers::{PARSERS, Parser, SLACK, meter::peak};

/// The files of a folder, by name; none if there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    files.sort();
    files
}

fn names(folder: &Path) -> BTreeSet<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    files(folder).into_iter().map(name).collect()
}

/// Calls every parser with the files in its folder; the names of those that it did not bear.
fn broken(folder: &Path) -> Vec<String> {
    let of = |&(name, parser): &Parser| {
        let bears = move |path: &PathBuf| {
            let data = std::fs::read(path).expect("a file");
            catch_unwind(|| parser(&data)).is_ok()
        };
        let files = files(&folder.join(name)).into_iter();
        files.filter(move |path| !bears(path))
    };
    let broken = PARSERS.iter().flat_map(of);
    broken.map(|path| path.display().to_string()).collect()
}

fn parser(name: &str) -> fn(&[u8]) {
    let (_, parser) = PARSERS.iter().find(|(one, _)| *one == name).unwrap();
    *parser
}

#[test]
fn what_broke_a_parser_does_so_no_more() {
    let folder = fixture("regressions");
    let known: BTreeSet<_> = PARSERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(names(&folder).is_subset(&known), "a folder has no parser");
    assert_eq!(broken(&folder), Vec::<String>::new());
}

#[test]
fn every_parser_has_seeds_and_bears_them() {
    let seeds = root().join("fuzz/seeds");
    for (name, _) in PARSERS {
        let count = files(&seeds.join(name)).len();
        assert!(count >= 20, "{name} has {count} seeds");
        let target = root().join(format!("fuzz/fuzz_targets/{name}.rs"));
        let text = std::fs::read_to_string(target).expect("a target");
        assert!(text.contains(&format!("parse(\"{name}\", data)")), "{name}");
    }
    assert_eq!(broken(&seeds), Vec::<String>::new());
}

#[test]
fn memory_is_counted() {
    let (bytes, _) = peak(|| vec![1_u8; 1 << 20]);
    assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
    let (bytes, ()) = peak(|| drop(vec![0_u8; 1 << 22]));
    assert!(bytes >= 1 << 22, "what is freed again counts as well");
}

/// A safetensors file of this header and no data.
fn headed(header: &str) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes()].concat()
}

fn repeated(count: usize, between: &str, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(between)
}

#[test]
fn headers_that_ask_for_more_than_they_have() {
    let safetensors = parser("safetensors");
    let empty = |number| format!(r#""{number}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    safetensors(&headed(&format!("{{{}}}", repeated(300_000, ",", empty))));
    let word = |number| format!(r#""{number}":"""#);
    let metadata = repeated(1_000_000, ",", word);
    safetensors(&headed(&format!(r#"{{"__metadata__":{{{metadata}}}}}"#)));
    let sides = "0,".repeat(4_000_000);
    let wide = format!(r#"{{"a":{{"dtype":"U8","shape":[{sides}0],"data_offsets":[0,0]}}}}"#);
    safetensors(&headed(&wide));
    safetensors(&headed(&"[".repeat(4_000_000)));
    safetensors(&headed(&format!("{{\"a\":{}", "[".repeat(4_000_000))));
    safetensors(&[&(90_u64 << 20).to_le_bytes()[..], b"{}"].concat());
}

#[test]
fn gguf_files_that_ask_for_more_than_they_have() {
    let gguf = parser("gguf");
    let head = |tensors: u64, words: u64| {
        [
            &b"GGUF\x03\0\0\0"[..],
            &tensors.to_le_bytes(),
            &words.to_le_bytes(),
        ]
        .concat()
    };
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    // As many of the smallest words and tensors as a file may have.
    let word = |number: usize| [&text(&format!("{number}"))[..], &[0, 0, 0, 0, 0]].concat();
    let words: Vec<_> = (0..1 << 17).map(word).collect();
    gguf(&[head(0, 1 << 17), words.concat()].concat());
    let tensor = |number: usize| [&text(&format!("{number}"))[..], &[0; 16]].concat();
    let tensors: Vec<_> = (0..1 << 16).map(tensor).collect();
    gguf(&[&head(1 << 16, 0)[..], &tensors.concat(), &[0; 64]].concat());
    // A list of lists of lists, and a list of as many elements as the file has bytes.
    let list = [9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].repeat(100_000);
    gguf(&[&head(0, 1)[..], &text("a"), &[9, 0, 0, 0], &list].concat());
    let long = [&[7, 0, 0, 0][..], &4_000_000_u64.to_le_bytes()].concat();
    let zeros = vec![0; 4_000_000];
    gguf(&[&head(0, 1)[..], &text("a"), &[9, 0, 0, 0], &long, &zeros].concat());
}

#[test]
fn indices_that_ask_for_more_than_they_have() {
    let tensor = |number| format!(r#""{number}":"a.safetensors""#);
    let many = format!(
        r#"{{"weight_map":{{{}}}}}"#,
        repeated(1_000_000, ",", tensor)
    );
    parser("shards")(many.as_bytes());
    parser("shards")("[".repeat(4_000_000).as_bytes());
}

/// An archive as torch writes it, whose pickle is this.
fn archived(pickle: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    for (name, contents) in [
        ("a/data.pkl", pickle),
        ("a/version", b"3\n"),
        ("a/data/0", &[0; 8]),
    ] {
        archive.start_file(name, options).expect("an entry");
        archive.write_all(contents).expect("an entry");
    }
    archive.finish().expect("an archive").into_inner()
}

/// An archive of this many empty entries.
fn crowded(entries: usize) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for entry in 0..entries {
        let name = format!("a/data/{entry}");
        archive.start_file(name, options).expect("an entry");
    }
    archive.finish().expect("an archive").into_inner()
}

#[test]
fn archives_of_more_entries_than_anybody_writes() {
    let archive = crowded(200_000);
    parser("torch")(&archive);
    parser("data")(&archive);
}

#[test]
fn pickles_that_ask_for_more_than_they_have() {
    let torch = parser("torch");
    let whole = |body: &[u8]| [b"\x80\x02", body, b"."].concat();
    // Lists in lists, empty lists side by side, marks alone, a value doubled again and again, long strings.
    let bodies: [Vec<u8>; 7] = [
        b"]".repeat(2_000_000),
        [b"](".to_vec(), b"]".repeat(4_000_000), b"e".to_vec()].concat(),
        b"(".repeat(4_000_000),
        [b"]".to_vec(), b"2".repeat(4_000_000)].concat(),
        [b"]q\x00".to_vec(), b"(h\x00h\x00l0h\x00".repeat(500_000)].concat(),
        b"T\xff\xff\xff\x7fa".to_vec(),
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa".to_vec(),
    ];
    for body in bodies {
        torch(&whole(&body));
        torch(&archived(&whole(&body)));
    }
    torch(&archived(&vec![0; 300 << 20]));
    torch(&archived(&whole(&b"K\x01".repeat(40 << 20))));
}

/// A pickle of dictionaries in dictionaries, under one long key all of them, with many tensors that are one.
fn long_names() -> Vec<u8> {
    let key = vec![b'a'; 60_000];
    let mut pickle = b"\x80\x02X".to_vec();
    pickle.extend(60_000_u32.to_le_bytes());
    pickle.extend(key);
    pickle.extend(
        b"q\x000ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n",
    );
    pickle.extend(b"X\x01\0\0\x000X\x03\0\0\0cpuK\x02tQK\0(K\x01t(K\x01t\x89}tRq\x010}(");
    for number in 0..1000_u16 {
        pickle.push(b'M');
        pickle.extend(number.to_le_bytes());
        pickle.extend(b"h\x01");
    }
    pickle.extend(b"uq\x020");
    pickle.extend(b"}h\x00h\x02sq\x020".repeat(60));
    pickle.extend(b"h\x02.");
    pickle
}

#[test]
fn names_longer_than_their_file() {
    parser("torch")(&archived(&long_names()));
}

#[test]
fn configurations_that_ask_for_more_than_they_have() {
    let lists = format!("[{}[]]", "[],".repeat(1_500_000));
    let deep = "[".repeat(4_000_000);
    let numbers = format!("[{}0]", "0,".repeat(2_000_000));
    for value in [&lists, &deep, &numbers] {
        for file in [
            "model_index.json",
            "unet/config.json",
            "scheduler/scheduler_config.json",
        ] {
            let index = r#"{"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}"#;
            let text =
                format!(r#"{{"_class_name": "DDIMScheduler", "block_out_channels": {value}}}"#);
            let mut input = format!("{file}\n{text}");
            if file != "model_index.json" {
                input = format!("model_index.json\n{index}\n%%%%\n{input}");
            }
            parser("configs")(input.as_bytes());
        }
        parser("controls")(format!(r#"{{"block_out_channels": {value}}}"#).as_bytes());
        let betas =
            format!("\u{4}{{\"_class_name\": \"DDIMScheduler\", \"trained_betas\": {value}}}");
        parser("schedulers")(betas.as_bytes());
    }
}

#[test]
fn tokenizers_that_ask_for_more_than_they_have() {
    let special = r#""<|startoftext|>":0,"<|endoftext|>":1"#;
    let word = |number| format!(r#""w{number}":{number}"#);
    let vocabulary = format!("{{{special},{}}}", repeated(500_000, ",", word));
    parser("tokenizers")(format!("{vocabulary}\n%%%%\n#version: 0.2\n").as_bytes());
    let merges = "a b\n".repeat(2_000_000);
    let few = r#"{"<|startoftext|>":0,"<|endoftext|>":1,"a":2,"b":3,"ab":4}"#;
    parser("tokenizers")(format!("{few}\n%%%%\n{merges}").as_bytes());
}

#[test]
fn evaluations_that_ask_for_more_than_they_have() {
    let data = parser("data");
    data(&b"a\n".repeat(3_000_000));
    data(&b"{\"prompt\":\"a\"}\n".repeat(500_000));
    let wide = |sides: &str| {
        let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({sides}), }}");
        let length = u16::try_from(text.len())
            .expect("a short text")
            .to_le_bytes();
        let array = [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes(), &[0; 64]].concat();
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file("arr_0.npy", options).expect("an entry");
        archive.write_all(&array).expect("an entry");
        archive.finish().expect("an archive").into_inner()
    };
    data(&wide("1, 65536, 65536, 3"));
    data(&wide("1, 4294967296, 4294967296, 3"));
    data(&wide("18446744073709551615, 0, 0, 3"));
    let manifest = |samples: u64, batch: u64| {
        format!(
            r#"{{"version":"","model":"","weights":"","dtype":"","sampler":"","guidance_scale":1.0,"width":1,"height":1,"samples":{samples},"batch":{batch},"seed":0,"methods":[],"subjects":"nothing"}}"#
        )
    };
    for (samples, batch) in [
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (1, u64::MAX),
        (1 << 40, 0),
    ] {
        parser("manifests")(manifest(samples, batch).as_bytes());
    }
}

/// A PNG of this size, of one grey, as short as it goes.
fn grey(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().expect("a header");
    let row = vec![0; width.div_ceil(8) as usize];
    let mut stream = writer.stream_writer().expect("a stream");
    for _ in 0..height {
        stream.write_all(&row).expect("a row");
    }
    stream.finish().expect("an end");
    drop(writer);
    bytes
}

#[test]
fn pictures_that_ask_for_more_than_they_have() {
    let pictures = parser("pictures");
    let bomb = grey(32_000, 32_000);
    assert!(bomb.len() < SLACK / 16, "{}", bomb.len());
    pictures(&bomb);
    pictures(&grey(40_000, 8));
    let large = grey(6_000, 6_000);
    pictures(&large);
    pictures(&large[..large.len() / 2]);
    pictures(b"P6 30000 30000 255\n");
    pictures(b"P6 4294967295 4294967295 65535\n");
    pictures(b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\0\x60\0\0\0\x60\0\0\x01\0\x18\0\0\0\0\0");
    pictures(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;");
}

/// What an environment variable says of a run by hand.
fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
#[ignore = "for `scripts/fuzz.sh lines`: one parser on what the fuzzer has collected"]
fn what_the_fuzzer_collected() {
    let name = asked("AFTERIMAGE_PARSER").expect("the name of a parser");
    let parser = parser(&name);
    let collected = asked("AFTERIMAGE_CORPUS").map(PathBuf::from);
    let seeds = root().join("fuzz/seeds").join(&name);
    for folder in [Some(seeds), collected].into_iter().flatten() {
        for path in files(&folder) {
            parser(&std::fs::read(path).expect("a file"));
        }
    }
}

#[test]
#[ignore = "for `scripts/fuzz.sh blind`: one parser on seeds changed at random, for so many seconds"]
fn seeds_changed_at_random() {
    let name = asked("AFTERIMAGE_PARSER").expect("the name of a parser");
    let number = |name: &str| asked(name).and_then(|text| text.parse().ok());
    let (seconds, start) = (number("AFTERIMAGE_SECONDS"), number("AFTERIMAGE_RANDOM"));
    let parser = parser(&name);
    let read = |path: PathBuf| std::fs::read(path).expect("a file");
    let seeds = files(&root().join("fuzz/seeds").join(&name));
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(read).collect();
    let dictionary = root().join(format!("fuzz/dictionaries/{name}.dict"));
    let words = words(&std::fs::read_to_string(dictionary).expect("a dictionary"));
    let artifacts = asked("AFTERIMAGE_ARTIFACTS").map_or_else(std::env::temp_dir, PathBuf::from);
    let mut random = Random(start.unwrap_or(1).max(1));
    let (begin, mut runs, mut found) = (Instant::now(), 0_u64, 0_u64);
    let last = artifacts.join(format!("{name}-last"));
    while begin.elapsed().as_secs() < seconds.unwrap_or(10) {
        let data = changed(&mut random, &seeds, &words);
        // What ends the whole process, a stack that overflows, is found here.
        std::fs::write(&last, &data).expect("a file");
        runs += 1;
        if catch_unwind(|| parser(&data)).is_err() {
            found += 1;
            std::fs::write(artifacts.join(format!("{name}-{found}")), &data).expect("a file");
        }
    }
    eprintln!("{name}: {runs} runs, {found} findings");
    assert_eq!(found, 0, "see {}", artifacts.display());
}
