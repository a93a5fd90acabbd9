//! Any ONNX classifier with a class map is a label witness: shown on a file with the interface of the ResNet_v1 that was
//! published with Open Images, 5,000 outputs whose classes are label ids.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use dih_tests::{World, make_by_python};

/// Writes model, class names, class map, taxonomy and photos. Class 17 is as sure as a photo is red, class 4242 as it is
/// blue; every other class is never sure.
const MAKE: &str = r#"
import sys, os, hashlib, numpy as np
from PIL import Image
d = sys.argv[1]
from onnx_writer import attribute, node, num, sub, tensor, value
w = np.zeros((5000, 3), np.float32); w[17] = [40, -20, -20]; w[4242] = [-20, -20, 40]
graph = sub(7, node('GlobalAveragePool', ['input'], 'pool'),
    node('Flatten', ['pool'], 'embedding', attribute('axis', 1)),
    node('Gemm', ['embedding', 'w', 'b'], 'logits', attribute('transB', 1)),
    sub(2, 'five thousand'), tensor('w', w), tensor('b', np.zeros(5000, np.float32)),
    value(11, 'input', [3, 64, 64]), value(12, 'embedding', [3]), value(12, 'logits', [5000]))
open(d + '/resnet.onnx', 'wb').write(num(1, 8) + graph + sub(8, sub(1, ''), num(2, 13)))
sha = hashlib.sha256(open(d + '/resnet.onnx', 'rb').read()).hexdigest()
ids = [f'/m/0{n}' for n in range(5000)]
open(d + '/labels.txt', 'w').write('\n'.join(ids) + '\n')
open(d + '/map.csv', 'w').write('class,name,label\n' + ''.join(f'{n},{i},{i}\n' for n, i in enumerate(ids)))
name = {17: 'Tomato', 4242: 'Blueberry', 1: 'Fruit'}
open(d + '/classes.csv', 'w').write(''.join(f'{i},{name.get(n, f"Thing {n}")}\n' for n, i in enumerate(ids)))
open(d + '/tree.csv', 'w').write('label,parent\n/m/017,/m/01\n/m/04242,/m/01\n')
open(d + '/resnet.toml', 'w').write(f'''
name = "resnet-v1"
file = "resnet.onnx"
sha256 = "{sha}"
precision = "fp32"
licence = "none"
source = "made by a test"
labels = "labels.txt"
[input]
name = "input"
size = 64
layout = "nchw"
channels = "rgb"
normalise = {{ mean = [127.0, 127.0, 127.0], std = [128.0, 128.0, 128.0] }}
crop = 1.0
filter = "bilinear"
[outputs.embedding]
name = "embedding"
dim = 3
[outputs.logits]
name = "logits"
dim = 5000
''')
rng = np.random.default_rng(1)
for label, colour, name in [('Tomato', 0, 'red'), ('Blueberry', 0, 'red-again'), ('Fruit', 2, 'blue')]:
    os.makedirs(f'{d}/photos/{label}', exist_ok=True)
    tone = np.array([120, 120, 120]); tone[colour] = 255
    rgb = np.zeros((240, 240, 3), np.uint8) + tone.astype(np.uint8)
    for _ in range(200):  # edges, so that it is no blurred photo
        x, y, side = rng.integers(0, 230), rng.integers(0, 230), rng.integers(4, 40)
        rgb[y:y + side, x:x + side] = tone * rng.uniform(0.6, 1)
    Image.fromarray(rgb).save(f'{d}/photos/{label}/{name}.png')
"#;

#[test]
fn a_classifier_of_five_thousand_classes_judges_labels_through_its_map() -> Result<()> {
    let world = World::new()?;
    let dir = world.home().join("witness");
    fs::create_dir_all(&dir)?;
    make_by_python(MAKE, &[&dir])?;
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let config = format!(
        "[model]\nmanifest = {:?}\nfolder = {:?}\nclass_map = {:?}\n[taxonomy]\nclasses = {:?}\nhierarchy = {:?}\n",
        path("resnet.toml"),
        path(""),
        path("map.csv"),
        path("classes.csv"),
        path("tree.csv")
    );
    fs::write(world.home().join("dih.toml"), config)?;
    world.run(&["import", &path("photos")])?;
    world.run(&["run", "--until-idle"])?;
    world.audit_is_clean(3)?;
    let verdicts = world.verdicts()?;
    let of = |source: &str| verdicts.iter().find(|v| v.source == source).with_context(|| source.to_owned());
    assert_eq!(of("Tomato/red.png")?.verdict, "curated", "its own class is sure: {}", of("Tomato/red.png")?.json);
    assert_eq!(of("Fruit/blue.png")?.verdict, "curated", "a kind of it is sure: {:?}", of("Fruit/blue.png")?.json);
    let absurd = of("Blueberry/red-again.png")?;
    assert_eq!((absurd.verdict.as_str(), absurd.reason.as_str()), ("held", "label_absurd"), "{}", absurd.json);
    Ok(())
}

#[test]
fn a_class_map_with_a_fault_is_named() -> Result<()> {
    let world = World::new()?;
    let map: &Path = &world.home().join("map.csv");
    fs::write(map, "class,name,label\n1000,too many,Cat\n")?;
    fs::write(world.home().join("dih.toml"), format!("[model]\nclass_map = {:?}\n", map.to_string_lossy()))?;
    let run = world.try_run(&["run", "--until-idle"])?;
    assert!(!run.status.success());
    let told = String::from_utf8_lossy(&run.stderr);
    assert!(told.contains("line 2") && told.contains("1000") && told.contains("dih taxonomy map"), "{told}");
    Ok(())
}
