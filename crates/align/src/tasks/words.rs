//! The closed word lists that the letter and list tasks draw from.
//! Everyday words, so that a small vocabulary splits most of them into short pieces that many words share, and words made
//! up of syllables.

use ledger::seed::Rng;

/// Words for spelling, counting letters and reversing letters: three to eight letters, a to z.
const SPELLED: &str = "
acorn actor adult agent album alley amber angel ankle anchor apple apron arrow artist autumn award
bacon badger bagel baker bamboo banana banner barn barrel basil basket battery beach beard beaver bench berry birch
biscuit blanket blossom boat bonnet border bottle bowl brain branch bread breeze brick bride bridge broom brother brush
bubble bucket bundle burger butter button cabbage cabin cactus camel camera candle candy canoe canyon carpet carrot
castle cattle cedar ceiling cellar chain chair chalk cheese cherry chest chicken chimney circle circus cliff clock cloud
clover coast cobra cocoa coconut coffee collar comet copper coral corner cotton couch cousin crab crane crayon cricket
crocus crown crystal cushion daisy dancer desert dinner doctor dolphin donkey dragon drawer dream dress drum duck
eagle earth easel echo elbow elephant engine eraser falcon farmer feather fence fiddle finger flame flower flute forest
fossil fountain fox frame friend frog fruit funnel galaxy garage garden garlic garnet ghost ginger giraffe glacier globe
glove goat goblin grape grass guitar hammer harbor harvest hazel heart hedge helmet hero heron hill hockey honey hotel
house hunter island ivory jacket jaguar jelly jewel jungle juniper kettle kitchen kite kitten knee knife ladder lagoon
lake lamb lantern laurel lawyer leaf leather lemon leopard letter lettuce lily lime lion lizard lobster lotus lunch
magnet mango mantle maple marble market meadow melon mermaid meteor milk mirror mitten monkey moon morning mother mountain
mouse muffin museum mushroom mustard napkin needle nest night noodle north nurse nutmeg oasis oatmeal ocean olive onion
orange orchard otter oven owl oyster paddle painter palace panda pansy papaya parade parrot pasta peach peanut pear
pebble pelican pencil penguin pepper piano picnic pigeon pillow pilot pine pirate planet plate plum pocket poem pond pony
poppy potato pottery prince pumpkin puppy puzzle quail quartz queen quilt rabbit radish railway rain ranch raven ribbon
rice ring river robin rocket roof rose ruby sailor salad salmon salt sand sandal saturn saucer scarf school scooter seal
shadow shark sheep shell shirt shoe shovel silk silver singer sister skate sky sleeve slipper snail snow soap sock sofa
soldier soup spider spinach spoon spring squirrel stable stairs starfish station steam stone storm stove straw street
sugar summer sunset swan sweater table tailor teacher temple tennis thistle thumb thunder tiger timber toast tomato tongue
tooth tower train travel treasure tree trophy trumpet tulip tunnel turkey turtle uncle valley vanilla velvet village violet
violin volcano wagon walnut walrus water whale wheat wheel whistle willow window winter wizard wolf wood wool yogurt zebra
";

/// Words for lists to sort or reverse. Alphabetical order is decided by the first letter where a list is drawn so.
const LISTED: &str = "
apple ball cat dog egg fish goat hat ice jam king lamp moon nest oil pen queen rain sun tree urn van wolf yard zoo
ant bread cloud desk fork glass house ink juice kite leaf milk nose orange paper road salt table wine year
";

/// How made-up syllables begin and end. Together they hold nearly every run of letters that a small vocabulary makes
/// one token of, so that a model meets the letters of each in training; a list of real words alone left half of the
/// held-out words with a token that no training word has.
const ONSETS: &str = "
b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p ph pl pr qu r s sc scr sh sk sl sm sn sp spr st str sw t th tr tw
v w wh y z
";
const RIMES: &str = "
ab able ack act ad ade age aid ail ain air ake ale all alk am ame amp an ance and ane ang ange ank ans ant ap ape ar ard
are ark arm art ase ash ask ass ast aste at atch ate ath ave aw ay az ea each ead eak eal eam ean ear east eat eck ect
ed ee eed eek eel een eep eer eet eg el ell elp em emp en ence end ent er ere erm ern ert erve es ess est et ew ex ey
ib ice ick id idd ide ie ield ier iff ife ift ig ight ike il ile ill im ime in ind ine ing ink int ip ipe ir ird ire is
ise ish isk iss ist it ite ive ix ize oad oar oat ob ock od ode oe og oil oin oint ok oke ol old ole oll olt om ome on
ond one ong oo ood ook ool oom oon oop oor oot op ope or ord ore ork orm orn ort ose oss ost ot ote oth other ouch oud
ough ould ound ount our ouse out ove ow own ox oy ub uck ud ude uff ug uide uit ul ull um ump un unch und ung unk up ur
ure urn us use ush ust ut ute uy y
";
const MIDDLES: &str = "b bb c ck ct d dd f ff fl g gg l ll lt m mm mp n nd ng nk nn nt p pp pt r rd rk rr rt s ss st t tt th v x z";

/// Makes up words of one to three syllables, three to nine letters.
pub(super) struct MadeUp {
    onsets: Vec<&'static str>,
    rimes: Vec<&'static str>,
    middles: Vec<&'static str>,
}

impl MadeUp {
    pub(super) fn new() -> Self {
        let list = |text: &'static str| text.split_whitespace().collect();
        Self { onsets: list(ONSETS), rimes: list(RIMES), middles: list(MIDDLES) }
    }

    pub(super) fn word(&self, rng: &mut Rng) -> String {
        loop {
            // One word in eight begins with a vowel.
            let mut word = if rng.below(8) == 0 { String::new() } else { pick(&self.onsets, rng).to_owned() };
            word += pick(&self.rimes, rng);
            for _ in 0..rng.below(3) {
                word += pick(&self.middles, rng);
                word += pick(&self.rimes, rng);
            }
            if (3..=9).contains(&word.len()) {
                return word;
            }
        }
    }
}

/// One of the words.
pub(super) fn pick<'a>(words: &[&'a str], rng: &mut Rng) -> &'a str {
    rng.pick::<&str>(words)
}

/// The words that the letter tasks spell, count and reverse.
pub(super) fn spelled() -> Vec<&'static str> {
    SPELLED.split_whitespace().collect()
}

/// The words that the list tasks sort and reverse.
pub(super) fn listed() -> Vec<&'static str> {
    LISTED.split_whitespace().collect()
}

/// A whole number from 0 to 999 in English words: `forty-two`, `one hundred and five`.
pub fn number_in_words(number: u32) -> String {
    const ONES: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] =
        ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    match number {
        0..20 => ONES[number as usize].to_owned(),
        20..100 if number.is_multiple_of(10) => TENS[(number / 10) as usize].to_owned(),
        20..100 => format!("{}-{}", TENS[(number / 10) as usize], ONES[(number % 10) as usize]),
        100..1000 if number.is_multiple_of(100) => format!("{} hundred", ONES[(number / 100) as usize]),
        100..1000 => {
            format!("{} hundred and {}", ONES[(number / 100) as usize], number_in_words(number % 100))
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_lists_hold_each_word_once_in_plain_letters() {
        for list in [spelled(), listed()] {
            let mut seen = std::collections::HashSet::new();
            for word in &list {
                assert!(seen.insert(*word), "{word} occurs twice");
                assert!(word.len() <= 8 && word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
            }
        }
    }

    #[test]
    fn made_up_words_are_plain_and_many() {
        let (made_up, mut rng) = (MadeUp::new(), ledger::seed::Seed(1).stream("test", 0));
        let words: std::collections::HashSet<String> = (0..1000).map(|_| made_up.word(&mut rng)).collect();
        assert!(words.len() > 900, "{}", words.len());
        for word in words {
            assert!(
                (3..=9).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()),
                "{word}"
            );
        }
    }

    #[test]
    fn numbers_in_words() {
        for (number, words) in [
            (0, "zero"),
            (13, "thirteen"),
            (20, "twenty"),
            (42, "forty-two"),
            (100, "one hundred"),
            (117, "one hundred and seventeen"),
        ] {
            assert_eq!(number_in_words(number), words);
        }
    }
}
