//! CPU time a photo of a model, on one thread, and the peak memory of it: `cost [BATCH [MANIFEST]]`.

use std::{env, fs, path::Path, time::Instant};

use dih_inference::{Config, Manifest, Once, Tensor, tools_dir};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let batch: usize = env::args().nth(1).map_or(Ok(1), |n| n.parse())?;
    let tools = tools_dir().ok_or("no tools folder; run `make setup`")?;
    let manifest = env::args().nth(2).unwrap_or_else(|| "config/models/efficientnet-lite0-int8.toml".to_owned());
    let manifest = Manifest::load(Path::new(&manifest), &tools.join("models"))?;
    let mut model = Once::of(&manifest, &Config::default())?;

    let pixels: Vec<u8> = (0..256 * 256 * 3).map(|i| (i * 31 % 251) as u8).collect();
    let start = Instant::now();
    for _ in 0..100 {
        manifest.prepare(&pixels, 256, 256)?;
    }
    println!("prepare: {:.2} ms a photo", start.elapsed().as_secs_f64() * 10.0);

    let inputs: Vec<Tensor> = vec![manifest.prepare(&pixels, 256, 256)?; batch];
    model.run("embedding", &inputs)?;
    let (start, before) = (Instant::now(), cpu_ms()?);
    let rounds = 160 / batch;
    for _ in 0..rounds {
        model.run("embedding", &inputs)?;
    }
    let photos = (rounds * batch) as f64;
    let (cpu, wall) = ((cpu_ms()? - before) / photos, start.elapsed().as_secs_f64() * 1000.0 / photos);
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("VmHWM: unknown");
    println!("batch {batch}: {cpu:.2} CPU-ms and {wall:.2} ms a photo; {peak}");
    Ok(())
}

/// CPU time of this process, from the scheduler's count in nanoseconds (all threads).
fn cpu_ms() -> Result<f64, Box<dyn std::error::Error>> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir("/proc/self/task")? {
        let stat = fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += stat.split(' ').next().unwrap_or("0").parse::<f64>()?;
    }
    Ok(nanoseconds / 1e6)
}
