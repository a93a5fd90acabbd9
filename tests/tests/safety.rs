//! A safety model, named in the configuration, refuses what it calls unsafe: shown on a tiny ONNX file that takes red for it.

use std::fs;

use anyhow::{Context, Result};
use dih_tests::{World, make_by_python};

/// Writes model, class names, manifest and photos.
const MAKE: &str = r#"
import sys, os, hashlib, numpy as np
from PIL import Image
d = sys.argv[1]
from onnx_writer import attribute, node, num, sub, tensor, value
w = np.array([[0, 0, 0], [-9, -9, 18]], np.float32)  # blue, green, red
graph = sub(7, node('ReduceMean', ['input'], 'mean', sub(5, sub(1, 'axes'), num(8, 1), num(8, 2), num(20, 7)), attribute('keepdims', 0)),
    node('Gemm', ['mean', 'w', 'b'], 'scores', attribute('transB', 1)),
    node('Softmax', ['scores'], 'outputs', attribute('axis', 1)),
    sub(2, 'red'), tensor('w', w), tensor('b', np.zeros(2, np.float32)),
    value(11, 'input', [64, 64, 3]), value(12, 'outputs', [2]))
open(d + '/red.onnx', 'wb').write(num(1, 8) + graph + sub(8, sub(1, ''), num(2, 13)))
sha = hashlib.sha256(open(d + '/red.onnx', 'rb').read()).hexdigest()
open(d + '/classes.txt', 'w').write('safe\nunsafe\n')
open(d + '/red.toml', 'w').write(f'''
name = "red"
file = "{d}/red.onnx"
sha256 = "{sha}"
precision = "fp32"
licence = "none"
source = "made by a test"
labels = "{d}/classes.txt"
[input]
name = "input"
size = 64
layout = "nhwc"
channels = "bgr"
normalise = {{ mean = [127.0, 127.0, 127.0], std = [128.0, 128.0, 128.0] }}
crop = 1.0
filter = "bilinear"
[outputs.probabilities]
name = "outputs"
dim = 2
''')
rng = np.random.default_rng(1)
for name, tone in [('red', [255, 90, 90]), ('blue', [90, 90, 255])]:
    os.makedirs(f'{d}/photos/thing', exist_ok=True)
    tone = np.array(tone)
    rgb = np.zeros((240, 240, 3), np.uint8) + tone.astype(np.uint8)
    for _ in range(200):  # edges, so that it is no blurred photo
        x, y, side = rng.integers(0, 230), rng.integers(0, 230), rng.integers(4, 40)
        rgb[y:y + side, x:x + side] = tone * rng.uniform(0.3, 0.9)
    Image.fromarray(rgb).save(f'{d}/photos/thing/{name}.png')
"#;

#[test]
fn what_a_safety_model_calls_unsafe_is_refused_by_its_name_and_score() -> Result<()> {
    let world = World::new()?;
    let dir = world.home().join("safety");
    fs::create_dir_all(&dir)?;
    make_by_python(MAKE, &[&dir])?;
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    fs::write(world.home().join("dih.toml"), format!("[model]\nsafety = {:?}\n", path("red.toml")))?;
    world.run(&["import", &path("photos")])?;
    world.run(&["run", "--until-idle"])?;
    world.audit_is_clean(2)?;
    let verdicts = world.verdicts()?;
    let of = |source: &str| verdicts.iter().find(|v| v.source == source).with_context(|| source.to_owned());
    let (red, blue) = (of("thing/red.png")?, of("thing/blue.png")?);
    assert_eq!((red.verdict.as_str(), red.reason.as_str()), ("rejected", "unsafe"), "{}", red.json);
    assert_eq!(blue.verdict, "curated", "{}", blue.json);
    let told = world.run(&["explain", "thing/red.png"])?;
    assert!(told.contains("unsafe") && told.contains("red") && told.contains("0.8"), "{told}");
    Ok(())
}
