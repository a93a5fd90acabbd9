//! The class map of ImageNet-1k onto the labels of Open Images is what people would say.

use std::collections::BTreeSet;

use dih_taxonomy::map::{self, Mapped};

const MAP: &[u8] = include_bytes!("../../../config/models/imagenet1k-openimages.csv");
const CORRECTIONS: &[u8] = include_bytes!("../../../config/models/imagenet1k-openimages.corrections.csv");

/// ImageNet class and a label that it stands for.
const ARE: &[(usize, &str)] = &[
    (1, "/m/03fj2"),     // goldfish: Goldfish
    (8, "/m/09b5t"),     // hen: Chicken
    (21, "/m/015p6"),    // kite: Bird
    (162, "/m/01dj7"),   // beagle: Beagle
    (162, "/m/0bt9lr"),  // beagle: Dog
    (207, "/m/0bt9lr"),  // golden retriever: Dog
    (264, "/m/0bt9lr"),  // Cardigan: Dog
    (282, "/m/01yrx"),   // tiger cat: Cat
    (291, "/m/096mb"),   // lion: Lion
    (340, "/m/0898b"),   // zebra: Zebra
    (386, "/m/0bwd_0j"), // African elephant: Elephant
    (402, "/m/0342h"),   // acoustic guitar: Guitar
    (404, "/m/0cmf2"),   // airliner: Airplane
    (436, "/m/0k4j"),    // beach wagon: Car
    (466, "/m/07jdr"),   // bullet train: Train
    (474, "/m/01b_l2"),  // cardigan: Cardigan
    (508, "/m/01m2v"),   // computer keyboard: Computer keyboard
    (531, "/m/0gjkl"),   // digital watch: Watch
    (620, "/m/01c648"),  // laptop: Laptop
    (671, "/m/0199g"),   // mountain bike: Bike
    (817, "/m/0k4j"),    // sports car: Car
    (850, "/m/0kmg4"),   // teddy: Teddy bear
    (879, "/m/0hnnb"),   // umbrella: Umbrella
    (907, "/m/04dr76w"), // wine bottle: Bottle
    (920, "/m/015qff"),  // traffic light: Traffic light
    (934, "/m/01b9xk"),  // hotdog: Hot dog
    (950, "/m/0cyhj_"),  // orange: Orange
    (951, "/m/09k_b"),   // lemon: Lemon
    (954, "/m/09qck"),   // banana: Banana
    (963, "/m/0663v"),   // pizza: Pizza
];

/// ImageNet class and a label that is named alike, or near, but is something else.
const ARE_NOT: &[(usize, &str)] = &[
    (5, "/m/07qqq"),     // electric ray: Torpedo
    (21, "/m/02zt3"),    // kite: Kite
    (83, "/m/09b5t"),    // prairie chicken: Chicken
    (195, "/m/0cnyhnx"), // Boston bull: Bull
    (264, "/m/01b_l2"),  // Cardigan: Cardigan
    (275, "/m/0bt9lr"),  // African hunting dog: Dog
    (286, "/m/02nxqmh"), // cougar: Painter
    (286, "/m/096mb"),   // cougar: Lion
    (289, "/m/0c29q"),   // snow leopard: Leopard
    (329, "/m/015x4r"),  // sea cucumber: Cucumber
    (338, "/m/068zj"),   // guinea pig: Pig
    (383, "/m/01yrx"),   // Madagascar cat: Cat
    (403, "/m/06j22f"),  // aircraft carrier: Flattop
    (460, "/m/0dc4t"),   // breakwater: Mole
    (499, "/m/0362v5"),  // cleaver: Chopper
    (552, "/m/0m5nh"),   // feather boa: Boa
    (553, "/m/02p01q"),  // file: File
    (564, "/m/01n5jq"),  // four-poster: Poster
    (565, "/m/0k4j"),    // freight car: Car
    (600, "/m/0jlk7"),   // hook: Claw
    (655, "/m/046d80l"), // miniskirt: Mini
    (681, "/m/016vv0"),  // notebook: Notebook
    (684, "/m/05vtc"),   // ocarina: Potato
    (714, "/m/0ptv6"),   // pick: Pick
    (743, "/m/03jm5"),   // prison: House
    (750, "/m/08xgn7"),  // quilt: Comfort
    (829, "/m/0k4j"),    // streetcar: Car
    (921, "/m/032b3c"),  // book jacket: Jacket
    (972, "/m/0b7z1"),   // cliff: Drop
    (673, "/m/04rmv"),   // mouse: Mouse
    (934, "/m/0bt9lr"),  // hotdog: Dog
    (150, "/m/096mb"),   // sea lion: Lion
];

fn rows(text: &[u8]) -> Vec<Mapped> {
    map::parse(text, 1000).expect("a class map")
}

#[test]
fn known_pairs_are_in_the_map_and_false_friends_are_not() {
    let map = rows(MAP);
    let pairs: BTreeSet<(usize, &str)> = map.iter().map(|row| (row.class, row.label.as_str())).collect();
    assert_eq!(pairs.len(), map.len(), "no pair stands there twice");
    let missing: Vec<_> = ARE.iter().filter(|pair| !pairs.contains(pair)).collect();
    let wrong: Vec<_> = ARE_NOT.iter().filter(|pair| pairs.contains(pair)).collect();
    assert!(missing.is_empty() && wrong.is_empty(), "missing {missing:?}, wrong {wrong:?}");
    assert!(ARE.len() + ARE_NOT.len() >= 50);
}

#[test]
fn every_dog_is_a_dog_and_most_classes_are_something() {
    let map = rows(MAP);
    let of = |label: &str| map.iter().filter(|row| row.label == label).map(|row| row.class).collect::<BTreeSet<_>>();
    let dogs: BTreeSet<usize> = (151..=268).collect();
    assert!(of("/m/0bt9lr").is_superset(&dogs));
    let mapped: BTreeSet<usize> = map.iter().map(|row| row.class).collect();
    assert!(mapped.len() >= 900, "{} of 1,000 classes have a label", mapped.len());
}

#[test]
fn corrections_are_all_in_the_map() {
    let map = rows(MAP);
    for row in rows(CORRECTIONS) {
        let (out, label) = row.label.strip_prefix('-').map_or((false, row.label.as_str()), |label| (true, label));
        let is_in = map.iter().any(|m| m.class == row.class && m.label == label);
        assert_ne!(is_in, out, "{row:?}");
    }
}
