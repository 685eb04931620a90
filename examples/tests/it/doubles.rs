//! A number that a program sends is the number that the other one gets, to the last bit: in params
//! and results, typed or not, in an error's data, in a record, and in a token.

use std::fmt::LowerExp;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use redial_client::{CallToken, Client, Config, Dialect, Resolution};
use redial_protocol::{Method, MethodKind};
use redial_server::{Abort, Server};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use tokio::io::duplex;

/// Answers what it is asked.
enum Echo {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Numbers {
    doubles: Vec<f64>,
    singles: Vec<f32>,
    one: f64,
    nested: Option<(f64, [f64; 1])>,
}

impl Method for Echo {
    const NAME: &'static str = "echo";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = Numbers;
    type Output = Numbers;
}

impl Numbers {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        Self {
            doubles: (0..2000).map(|_| double(rng)).collect(),
            singles: (0..2000).map(|_| single(rng)).collect(),
            one: double(rng),
            nested: Some((double(rng), [double(rng)])),
        }
    }

    /// Every bit of it: `-0.0 == 0.0`, but they are two numbers.
    fn bits(&self) -> Vec<u64> {
        let (a, [b]) = self.nested.expect("it was sent");
        let doubles = self.doubles.iter().chain([&self.one, &a, &b]);
        let singles = self.singles.iter().map(|single| single.to_bits().into());
        doubles
            .map(|double| double.to_bits())
            .chain(singles)
            .collect()
    }
}

/// Any finite double: half of them of any size, half as programs have them.
fn double(rng: &mut ChaCha8Rng) -> f64 {
    let bits = rng.next_u64();
    let double = match bits % 2 {
        0 => f64::from_bits(rng.next_u64()),
        _ => (rng.next_u64() as f64 / 2f64.powi(64) - 0.5) * 10f64.powi((bits % 16) as i32),
    };
    if double.is_finite() { double } else { -0.0 }
}

fn single(rng: &mut ChaCha8Rng) -> f32 {
    let single = f32::from_bits(rng.next_u32());
    if single.is_finite() { single } else { -0.0 }
}

async fn client(dialect: Dialect, sessions: bool) -> Client {
    let server = Server::builder()
        .method::<Echo>(async |numbers| Ok(numbers))
        .mutation("value", async |value: Value| Ok(value))
        .mutation("integers", async |numbers: (u128, i128, u64)| Ok(numbers))
        .mutation("fail", async |[double]: [f64; 1]| {
            Err::<(), _>(Abort::failed("as asked").data(&json!({ "double": double }))?)
        })
        .build()
        .expect("a valid server");
    let config = Config {
        dialect,
        sessions,
        ..Config::default()
    };
    let connector = move || {
        let (near, far) = duplex(64 * 1024);
        let server = server.clone();
        tokio::spawn(async move { server.serve_connection(far).await });
        std::future::ready(Ok(near))
    };
    let client = Client::builder().config(config).connect_with(connector);
    client.await.expect("a pipe connects")
}

/// Kind: something between two programs changes a number. Instance: 27 of 100 random doubles came
/// back changed by one bit.
#[tokio::test]
async fn random_doubles_come_back_as_they_were_sent() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (dialect, sessions) in [
        (Dialect::JsonRpc2, true),
        (Dialect::JsonRpc2, false),
        (Dialect::Notebook, true),
    ] {
        let client = client(dialect, sessions).await;
        for _ in 0..10 {
            let sent = Numbers::random(&mut rng);
            let back = client.call::<Echo>(sent.clone()).await.expect("an echo");
            assert_eq!(back.bits(), sent.bits());

            let back = client.request("value", &sent).await.expect("an echo");
            let back: Numbers = serde_json::from_value(back).expect("numbers");
            assert_eq!(back.bits(), sent.bits());
        }
    }
}

#[tokio::test]
async fn an_errors_data_a_record_and_a_token_keep_every_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let client = client(Dialect::JsonRpc2, true).await;
    for _ in 0..200 {
        let sent = double(&mut rng);
        let error = client.request("fail", [sent]).await.expect_err("it fails");
        let data = error.server_error().and_then(|error| error.data.clone());
        let data: Value = serde_json::from_str(data.expect("data").get()).expect("JSON");
        let back = data["double"].as_f64().map(f64::to_bits);
        assert_eq!(back, Some(sent.to_bits()), "{sent}");
    }
    for _ in 0..10 {
        let sent = Numbers::random(&mut rng);
        let mut call = client.call::<Echo>(sent.clone());
        let token = serde_json::to_string(&call.token().await.expect("a token")).expect("JSON");
        let token: CallToken = serde_json::from_str(&token).expect("the same token");
        let back = client.resume(token.clone()).returning::<Numbers>().await;
        assert_eq!(back.expect("an echo").bits(), sent.bits());
        let record = client.resolve(token).returning::<Numbers>().await;
        let Resolution::Value(record) = record.expect("it was executed") else {
            panic!("it was executed");
        };
        assert_eq!(record.bits(), sent.bits());
    }
}

/// To types that can hold them. To a `Value`, what is beyond 64 bits is a double.
#[tokio::test]
async fn large_integers_come_back_as_they_were_sent() {
    let client = client(Dialect::JsonRpc2, true).await;
    for sent in [
        (u128::MAX, i128::MIN, u64::MAX),
        (
            u128::from(u64::MAX) + 1,
            i128::from(i64::MIN) - 1,
            (1 << 53) + 1,
        ),
    ] {
        let call = client.request("integers", sent);
        let back = call.returning::<(u128, i128, u64)>().await;
        assert_eq!(back.expect("an echo"), sent);
    }
}

/// As other languages write them: with 17 digits, with all digits, as an integer.
#[tokio::test]
async fn a_double_is_read_right_however_it_is_spelled() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let client = client(Dialect::JsonRpc2, true).await;
    for _ in 0..50 {
        let sent: Vec<f64> = (0..20).map(|_| double(&mut rng)).collect();
        let spellings: [fn(&f64) -> String; 4] = [
            |double| format!("{double:.17e}"),
            |double| format!("{double}"),
            |double| format!("{double:?}"),
            exponent_with_a_sign,
        ];
        for spell in spellings {
            let list: Vec<_> = sent.iter().map(spell).collect();
            let text = format!(r#"[{}]"#, list.join(","));
            let params = RawValue::from_string(text.clone()).expect("JSON");
            let back = client.request("value", params).await.expect("an echo");
            let bits = back.as_array().expect("an array").iter();
            let bits = bits.map(|double| double.as_f64().expect("a number") + 0.0);
            let bits: Vec<_> = bits.map(f64::to_bits).collect();
            // `-0` is an integer to some, and integers have one zero.
            let expected: Vec<_> = sent.iter().map(|double| (double + 0.0).to_bits()).collect();
            assert_eq!(bits, expected, "{text}");
        }
    }
}

fn exponent_with_a_sign(double: &impl LowerExp) -> String {
    let text = format!("{double:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}E+{exponent}"),
        _ => text,
    }
}
