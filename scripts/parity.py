#!/usr/bin/env python3
"""Makes the tables of docs/parity.md: errors over tolerances by fixture, on this processor and on narrower ones.

    python3 scripts/parity.py [--binary target/release/deps/it-…] [--keep FOLDER] [pictures] [films] [transformers]

Builds the tests (without GPUs), runs the committed cases on one, two and three threads and a choice of them as an older processor sees
them: through `qemu-x86_64` (Debian: qemu-user), and with other caches, which the matrix product asks Linux for.  Takes a quarter of an
hour on two idle cores; what a column came to is kept in FOLDER, and not computed again.  Fails if anything that is not explained takes more than
half of its tolerance, if threads change a bit, or if a test fails.
"""

import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/parity.md"
END = "<!-- end of tables -->\n"

# What is run for each part of the page, and which cases of it where everything takes long.
TESTS = {
    "pictures": (
        "golden::runs_agree_with_diffusers", "golden::runs_that_start_from_a_picture_agree_with_diffusers",
        "golden::runs_that_follow_a_picture_agree_with_diffusers", "ddpm::runs_agree_with_diffusers",
        "dit::runs::runs_agree_with_the_references", "ldm::runs::runs_agree_with_the_reference", "sdxl::the_hand_off_agrees_with_diffusers",
        "parity::products::long_sums_are_within_rounding_of_f64",
    ),
    "films": (
        "films::films_agree_with_diffusers", "svd::runs::steps_agree_with_diffusers", "text_to_video::steps_agree_with_diffusers",
        "zero_shot_film::each_step_agrees_from_the_latents_of_diffusers", "cascade::runs::runs_agree_with_diffusers",
    ),
    "transformers": (
        "mmdit::runs::runs_agree_with_diffusers", "flux::runs::runs_agree_with_diffusers", "pixart::runs::runs_agree_with_diffusers",
        "distilled::embedded_guidance_agrees_with_diffusers", "tiny_vae::runs_agree_with_diffusers",
    ),
}
# Fixtures too large to be committed, which are taken from the complete reference where there is one.
COMPLETE = ("if-stage1",)
CHOICE = {
    "pictures": (
        "sd15/ddim", "sd15/pndm", "sd15/dpmpp2m_sde", "sd15/heun", "sd15/ddim.deepcache_n3_b3", "sd15/fd.ddim.parallel", "sd21/ddim_zero_snr",
        "sd15-img2img/fd.euler_s80", "sd15-inpaint4/euler_s60", "sd15-inpaint9/ddim_s60", "sd15-controlnet/multi", "sdxl/prompt_2",
        "sdxl-refiner/refiner.euler_60", "dit/ddim", "dit/ancestral.g3.fd", "ddpm/ddim_eta0", "ddpm/ddpm_fixed_large.deepcache_n5_s3",
        "ldm/short", "ldm/short.fd.parallel4",
    ),
    "films": (
        "svd/euler", "svd/not_square", "svd/euler.deepcache_n2_b0", "svd/fd.euler", "t2v-ms/ddim", "t2v-ms/dpmpp2m",
        "t2v-ms/ddim.deepcache_n2_s3", "t2v-ms/decoded", "t2v-zero/ddim", "t2v-zero/ddim.deepcache_n3_s1", "t2v-zero/fd.ddim",
        "scenes-film/ddim.deepcache_n2_s0", "if-stage1/ddpm", "if-stage1/dpmpp", "if-stage2/ddpm", "if-stage2/dpmpp.deepcache_n2_s7",
        "sd-x4-upscaler/ddim", "sd-x4-upscaler/not_square", "sd-x4-upscaler/dpmpp2m.deepcache_n3_b3",
    ),
    "transformers": (
        "sd35/flow_heun", "sd35/skip_layer_guidance", "sd35/fd.flow_euler.mod2.cut2", "sd35/fbc.flow_euler.t0.295", "flux-schnell/one_step",
        "flux-schnell/not_square", "flux-schnell/fd.flow_euler.first.cut1", "pixart-sigma/no_cfg", "pixart-sigma/fd.dpmpp2m.mod3.cut1",
        "pixart-sigma/taylor.dpmpp2m.order2", "few-step-lcm/lcm_few", "few-step-lcm/lcm_more.deepcache_n2_b0",
    ),
}
# As Zen 5 has them, against Zen 4's 32 KiB in 8 ways and 1 MiB; and as small as they come.
CACHES = {"caches of 48 KiB, 12 ways": (48, 12, 2048, 16, 98304, 16), "caches of 16 KiB": (16, 4, 256, 4, 2048, 8)}

# Where more than half of a tolerance is the reference's own rounding, as the page shows from float64.
EXPLAINED = (("svd", "not_square"), ("svd", "no_cfg"), ("if-stage1", "ddpm_fixed.deepcache_n2_s8"))
FEW = 12

failed = []


def build():
    command = ["cargo", "test", "--release", "--locked", "--no-default-features", "--features", "cpu,bundled,hub,cli", "--test", "it", "--no-run",
               "--message-format=json"]
    made = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = (json.loads(line) for line in made.splitlines())
    return next(message["executable"] for message in messages if message.get("executable") and message["target"]["name"] == "it")


def begin(part):
    return f"<!-- tables of {part}: scripts/parity.py -->\n"


def run(binary, part, name, threads, cases=None, front=(), keep=None):
    """What every case came to: (fixture, case, way) → line."""
    kept = keep and keep / f"{part}, {name}.json"
    if kept and kept.exists():
        return of_lines(kept.read_text())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines.json"
        link_complete(Path(folder) / "reference/fixtures")
        environment = {**os.environ, "AFTERIMAGE_PARITY": str(file), "AFTERIMAGE_SHARED": folder, "RAYON_NUM_THREADS": str(threads)}
        if cases:
            environment["AFTERIMAGE_PARITY_CASES"] = ",".join(cases)
        done = subprocess.run([*front, binary, "--exact", *TESTS[part], "--test-threads", "1"], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        text = file.read_text() if file.exists() else ""
    found = of_lines(text)
    print(f"{name}: {len(found)} comparisons, {done.stdout.strip().splitlines()[-1]}", flush=True)
    if done.returncode:
        failed.append(f"{part}, {name}")
        print(done.stdout[-4000:], file=sys.stderr)
    assert found, done.stdout
    if kept and not done.returncode:
        kept.write_text(text)
    return found


def link_complete(folder):
    """Puts links to the complete references there are into a folder, and to nothing else: all other cases are the committed ones."""
    shared = Path(os.environ.get("AFTERIMAGE_SHARED", ROOT / "../shared")).resolve() / "reference/fixtures"
    folder.mkdir(parents=True)
    for name in COMPLETE:
        if (shared / name).exists():
            (folder / name).symlink_to(shared / name)


def of_lines(text):
    lines = map(json.loads, text.splitlines())
    return {(line["fixture"], line["case"], line["way"]): line for line in lines}


def with_caches(sizes, folder):
    """A command in front of another, under which Linux tells of other caches."""
    cache = Path(folder)
    for index, (level, kind, place) in enumerate(((1, "Data", 0), (2, "Unified", 2), (3, "Unified", 4))):
        entry = cache / f"index{index}"
        entry.mkdir(parents=True)
        told = {"level": level, "type": kind, "size": f"{sizes[place]}K", "ways_of_associativity": sizes[place + 1], "coherency_line_size": 64,
                "shared_cpu_list": "0"}
        for key, value in told.items():
            (entry / key).write_text(f"{value}\n")
    cpus = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache"))
    mounts = " && ".join(f"mount --bind {cache} {cpu}" for cpu in cpus)
    return ("unshare", "--map-root-user", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")


def share(line):
    return line["error"] / line["tolerance"]


def table(columns):
    fixtures = list(dict.fromkeys(fixture for fixture, *_ in next(iter(columns.values()))))
    rows = [["fixture", *columns], ["---"] * (1 + len(columns))]
    for fixture in fixtures:
        cells = []
        for found in columns.values():
            worst = [max((share(line) for (name, _, way), line in found.items() if (name, way) == (fixture, wanted)), default=None)
                     for wanted in ("stepwise", "free")]
            cells.append(" / ".join("–" if value is None else f"{value:.2f}" for value in worst))
        rows.append([fixture, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def worst(columns, count=8):
    lines = [(share(line), name, *key, line) for name, found in columns.items() for key, line in found.items()]
    lines.sort(key=lambda line: -line[0])
    text, seen = "", set()
    for value, name, fixture, case, way, line in lines:
        if (fixture, case, way) not in seen and len(seen) < count:
            seen.add((fixture, case, way))
            text += f"| {fixture} | {case} | {way} | {line['part']} | {line['error']:.1e} | {line['tolerance']:.1e} | {value:.2f} | {name} |\n"
    head = "| fixture | case | | worst part | error | tolerance | share | where |\n|---|---|---|---|---|---|---|---|\n"
    return head + text


def alike(columns):
    """How many comparisons of each column have the very bits of the first; which have not, if they are few."""
    first, *others = columns
    text = ""
    for other in others:
        both = [key for key in columns[first] if key in columns[other]]
        apart = [key for key in both if columns[first][key]["bits"] != columns[other][key]["bits"]]
        named = f"; not: {', '.join(f'{fixture}, {case}' for fixture, case, _ in apart)}" if 0 < len(apart) <= FEW else ""
        text += f"- {other}: {len(both) - len(apart)} of {len(both)}{named}\n"
    return text


def processor():
    fields = collections.OrderedDict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields["flags"].split()
    kinds = ", ".join(flag for flag in ("sse4_2", "avx", "avx2", "fma", "avx512f") if flag in flags)
    return f"{fields['model name']}, family {fields['cpu family']}, model {fields['model']}, {os.cpu_count()} threads, {kinds}"


def columns_of(part, binary, keep):
    """The comparisons of a part of the page, by where they were made."""
    columns = {}
    for threads in (1, 2, 3):
        name = "1 thread" if threads == 1 else f"{threads} threads"
        columns[name] = run(binary, part, name, threads, keep=keep)
    if shutil.which("qemu-x86_64"):
        for cpu in ("Haswell", "Nehalem"):
            columns[cpu] = run(binary, part, cpu, 2, CHOICE[part], ("qemu-x86_64", "-cpu", cpu), keep)
    for name, sizes in CACHES.items():
        with tempfile.TemporaryDirectory() as folder:
            front = with_caches(sizes, folder)
            if subprocess.run([*front, "true"], stderr=subprocess.DEVNULL).returncode == 0:
                columns[name] = run(binary, part, name, 2, None, front, keep)
    return columns


def write(part, columns):
    text = f"{begin(part)}\nProcessor: {processor()}.\n\n{table(columns)}\nThe largest shares:\n\n{worst(columns)}\n" \
           f"Comparisons whose every bit is as on one thread:\n\n{alike(columns)}\n{END}"
    page = PAGE.read_text()
    start = page.index(begin(part))
    PAGE.write_text(page[:start] + text + page[page.index(END, start) + len(END):])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", help="the integration tests as they are built")
    arguments.add_argument("--keep", type=Path, help="folder of what columns came to")
    arguments.add_argument("parts", nargs="*", help="pictures, films, transformers; all if none is named")
    given = arguments.parse_args()
    binary, keep = given.binary or build(), given.keep
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    largest = 0.0
    for part in given.parts or TESTS:
        columns = columns_of(part, binary, keep)
        write(part, columns)
        unexplained = [line for found in columns.values() for key, line in found.items() if key[:2] not in EXPLAINED]
        largest = max(largest, *map(share, unexplained))
        threads = [{key: line["bits"] for key, line in columns[name].items()} for name in list(columns)[:3]]
        assert threads[0] == threads[1] == threads[2], f"{part}: the number of threads changes what is computed"
    print(f"the largest share is {largest:.2f}")
    sys.exit(f"failed: {'; '.join(failed)}" if failed else largest > 0.5)


if __name__ == "__main__":
    main()
