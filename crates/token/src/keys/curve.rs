//! Whether a point lies on its curve. Uses big integers only, so that a Worker that leaves
//! signatures to WebCrypto contains no curve arithmetic.

use rsa::BigUint;

/// A curve y² = x³ - 3x + b over the integers modulo p (SEC 2, sections 2.4.2, 2.5.1 and 2.6.1).
/// Its cofactor is 1, so every point that has coordinates is of the full order.
pub(super) struct Curve {
    /// Name in a JWK (RFC 7518, section 6.2.1.1).
    pub(super) name: &'static str,
    p: &'static [u8],
    b: &'static [u8],
}

pub(super) const P256: Curve = Curve {
    name: "P-256",
    p: b"ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
    b: b"5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
};

pub(super) const P384: Curve = Curve {
    name: "P-384",
    p: b"fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
    b: b"b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
};

pub(super) const P521: Curve = Curve {
    name: "P-521",
    p: b"01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
         ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    b: b"0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109\
         e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
};

impl Curve {
    /// Whether big-endian coordinates are a point of the curve. Each must have the length of p (RFC 7518, section
    /// 6.2.1.2) and be below it, or one point would have several encodings. Not constant-time: the input is public.
    #[expect(clippy::arithmetic_side_effects, reason = "big integers do not overflow")]
    pub(super) fn has(&self, x: &[u8], y: &[u8]) -> bool {
        let number = |digits| BigUint::parse_bytes(digits, 16);
        let (Some(p), Some(b)) = (number(self.p), number(self.b)) else { return false };
        let is_full = [x, y].iter().all(|coordinate| coordinate.len() == self.p.len() / 2);
        let (x, y) = (BigUint::from_bytes_be(x), BigUint::from_bytes_be(y));
        if !is_full || x >= p || y >= p {
            return false;
        }
        let below_p = |sum: BigUint| if sum >= p { sum - &p } else { sum };
        // Double and add: the library's multiplication would be a thirtieth of the Worker's size.
        let product = |one: &BigUint, other: &BigUint| {
            one.to_bytes_be().iter().fold(BigUint::default(), |product, byte| {
                (0..8_u8).rev().fold(product, |product, bit| {
                    let doubled = below_p(&product + &product);
                    if byte >> bit & 1 == 1 { below_p(doubled + other) } else { doubled }
                })
            })
        };
        // Rearranged to avoid subtraction: y² + 3x = x³ + b.
        let left = (0..3).fold(product(&y, &y), |sum, _| below_p(sum + &x));
        let right = product(&product(&x, &x), &x) + b;
        left == below_p(right)
    }
}
