//! What reading costs: generates rows of the published shape and joins them; prints seconds and peak memory.
//!
//! `cargo run --release -p dih-openimages --example scale -- 5700000 [LABELS A IMAGE] [FOLDER]`

use std::{
    env, fs,
    io::{self, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

use dih_openimages::{Options, read};

const CLASSES: u64 = 19_995;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1);
    let images: u64 = args.next().ok_or("how many images?")?.parse()?;
    let labels: u64 = args.next().map_or(Ok(3), |n| n.parse())?;
    let place = args.next().map_or_else(env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(&place)?;
    generate(dir.path(), images, labels)?;
    let begun = (Instant::now(), cpu_seconds()?);
    let options = Options { photos: None, more: Vec::new(), machine_min: 0.9, spill: place };
    let mut refused = 0_u64;
    let mut note = |_: &_| {
        refused += 1;
        Ok(())
    };
    let mut joined = 0_u64;
    let (files, totals) = read(dir.path(), &options, &mut note)?.walk(|_, _| {
        joined += 1;
        ControlFlow::Continue(())
    })?;
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    let (seconds, cpu) = (begun.0.elapsed().as_secs_f64(), cpu_seconds()? - begun.1);
    println!("{rows} rows, {joined} images, {refused} refused; {totals:?}");
    println!("{seconds:.1} s, {cpu:.1} CPU-s, {:.2} CPU-us a row, peak {} MiB", cpu * 1e6 / rows as f64, peak_mib()?);
    Ok(())
}

fn generate(dir: &Path, images: u64, labels: u64) -> io::Result<()> {
    let create = |name: &str| Ok::<_, io::Error>(io::BufWriter::new(fs::File::create(dir.join(name))?));
    let mut classes = create("classes.csv")?;
    (0..CLASSES).try_for_each(|n| writeln!(classes, "/m/0{n},Thing number {n}"))?;
    let (mut rows, mut claims) = (create("images.csv")?, create("labels.csv")?);
    writeln!(
        rows,
        "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation"
    )?;
    writeln!(claims, "ImageID,Source,LabelName,Confidence")?;
    for n in 0..images {
        let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(
            rows,
            "{id:016x},train,https://farm1.staticflickr.com/5615/{n}_ec2be7a54e_o.jpg,https://www.flickr.com/photos/someone/{n},\
             https://creativecommons.org/licenses/by/2.0/,https://www.flickr.com/people/someone{}/,\"Some &amp; One {}\",\
             \"A title of usual length, number {n}\",{n},CyvuYIfw90WAr8y0a1PaOw==,https://c5.staticflickr.com/6/5615/{n}_z.jpg,0.0",
            n % 1000,
            n % 1000
        )?;
        for k in 0..labels {
            let class = (n * 31 + k * 7) % CLASSES;
            let (source, confidence) =
                [("machine", "0.9"), ("verification", "1"), ("verification", "0")][(k % 3) as usize];
            writeln!(claims, "{id:016x},{source},/m/0{class},{confidence}")?;
        }
    }
    Ok(())
}

/// User and system time of this process so far, from the system's own books.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields.get(11).ok_or("utime")?.parse::<f64>()? + fields.get(12).ok_or("stime")?.parse::<f64>()?;
    Ok(ticks / 100.0)
}

fn peak_mib() -> Result<u64, Box<dyn std::error::Error>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).ok_or("VmHWM")?;
    Ok(line.split_whitespace().nth(1).ok_or("kB")?.parse::<u64>()? / 1024)
}
