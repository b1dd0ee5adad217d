//! Numbers as `u64` whose unsigned order is the order of the values. Columns, points and range queries know only
//! these; [`FieldType`](super::FieldType) says how to read them back.
//!
//! ```text
//! long integer short byte date date_nanos    value ^ 2^63            (two's complement, sign bit flipped)
//! unsigned_long                              value
//! boolean                                    0, 1
//! double scaled_float*                       bits: positive ^ 2^63, negative all flipped (-0.0 < 0.0, NaN refused)
//! float, half_float                          the same in 32 and 16 bits, rounded to nearest even first
//! geo_point                                  latitude in the high 32 bits, longitude in the low (see `geo.rs`)
//! ```
//!
//! \* `scaled_float` is the long `round(value * scaling_factor)`.

/// A signed integer.
#[must_use]
pub fn from_i64(value: i64) -> u64 {
    value as u64 ^ (1 << 63)
}

/// The reverse of [`from_i64`].
#[must_use]
pub fn to_i64(sortable: u64) -> i64 {
    (sortable ^ (1 << 63)) as i64
}

/// A double.
#[must_use]
pub fn from_f64(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// The reverse of [`from_f64`].
#[must_use]
pub fn to_f64(sortable: u64) -> f64 {
    f64::from_bits(if sortable >> 63 == 1 { sortable & !(1 << 63) } else { !sortable })
}

/// A float, in the low 32 bits.
#[must_use]
pub fn from_f32(value: f32) -> u64 {
    let bits = value.to_bits();
    u64::from(if bits >> 31 == 0 { bits | 1 << 31 } else { !bits })
}

/// The reverse of [`from_f32`]; high bits are ignored.
#[must_use]
pub fn to_f32(sortable: u64) -> f32 {
    let bits = sortable as u32;
    f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
}

/// A half float, given by its 16 bits, in the low 16 bits.
#[must_use]
pub fn from_f16_bits(bits: u16) -> u64 {
    u64::from(if bits >> 15 == 0 { bits | 1 << 15 } else { !bits })
}

/// A half float as a float, from its sortable form.
#[must_use]
pub fn to_f16(sortable: u64) -> f32 {
    let bits = sortable as u16;
    f16_to_f32(if bits >> 15 == 1 { bits & !(1 << 15) } else { !bits })
}

/// The half float nearest to `value` (ties to even), as bits. Too large becomes infinite.
#[must_use]
pub fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let exponent = (bits >> 23 & 0xff) as i32;
    let mantissa = bits & 0x7f_ffff;
    if exponent == 0xff {
        return sign | 0x7c00 | if mantissa != 0 { 0x200 } else { 0 };
    }
    let half_exponent = exponent - 127 + 15;
    if half_exponent >= 31 {
        return sign | 0x7c00;
    }
    // The significand to shift right: with its hidden bit when the result is subnormal.
    let (significand, shift, base) = if half_exponent <= 0 {
        if half_exponent < -10 {
            return sign;
        }
        (mantissa | 0x80_0000, (14 - half_exponent) as u32, 0)
    } else {
        (mantissa, 13, (half_exponent as u32) << 10)
    };
    let kept = base + (significand >> shift);
    let rest = significand & ((1 << shift) - 1);
    let half = 1 << (shift - 1);
    // A carry out of the mantissa raises the exponent, which is what rounding up means there.
    let rounded = kept + u32::from(rest > half || (rest == half && kept & 1 == 1));
    sign | rounded as u16
}

/// A half float's bits as a float; exact.
#[must_use]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0f32 } else { 1.0 };
    let mantissa = f32::from(bits & 0x3ff);
    match bits >> 10 & 0x1f {
        0 => sign * mantissa * 2f32.powi(-24),
        31 if mantissa == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        exponent => sign * (1.0 + mantissa / 1024.0) * 2f32.powi(i32::from(exponent) - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_values() {
        assert_eq!(from_i64(-1), 0x7fff_ffff_ffff_ffff);
        assert_eq!(from_i64(0), 0x8000_0000_0000_0000);
        assert_eq!(from_f64(0.0), 0x8000_0000_0000_0000);
        assert_eq!(from_f64(-0.0), 0x7fff_ffff_ffff_ffff);
        assert_eq!(from_f64(1.0), 0xbff0_0000_0000_0000);
        assert_eq!(from_f32(1.0), 0xbf80_0000);
        assert_eq!(f32_to_f16(1.0), 0x3c00);
        assert_eq!(f32_to_f16(65504.0), 0x7bff);
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(f32_to_f16(-2.0), 0xc000);
        assert_eq!(f32_to_f16(0.1), 0x2e66);
        assert_eq!(f32_to_f16(5.960_464_5e-8), 0x0001);
    }

    #[test]
    fn every_half_float_survives() {
        for bits in 0..=u16::MAX {
            let wide = f16_to_f32(bits);
            if wide.is_nan() {
                continue;
            }
            assert_eq!(f32_to_f16(wide), bits);
            assert_eq!(to_f16(from_f16_bits(bits)).to_bits(), wide.to_bits());
        }
    }

    #[test]
    fn halfway_rounds_to_even() {
        for bits in 0..0x7bffu16 {
            let (low, high) = (f16_to_f32(bits), f16_to_f32(bits + 1));
            let middle = (low + high) / 2.0;
            assert_eq!(f32_to_f16(middle), if bits & 1 == 0 { bits } else { bits + 1 });
            assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() + 1)), bits + 1);
            assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() - 1)), bits);
        }
    }

    proptest! {
        #[test]
        fn order_and_value_are_kept(a in any::<i64>(), b in any::<i64>(), x in any::<f64>(), y in any::<f64>(),
                                    p in any::<f32>(), q in any::<f32>()) {
            prop_assert_eq!(from_i64(a).cmp(&from_i64(b)), a.cmp(&b));
            prop_assert_eq!(to_i64(from_i64(a)), a);
            prop_assert_eq!(from_f64(x).cmp(&from_f64(y)), x.total_cmp(&y));
            prop_assert_eq!(to_f64(from_f64(x)).to_bits(), x.to_bits());
            prop_assert_eq!(from_f32(p).cmp(&from_f32(q)), p.total_cmp(&q));
            prop_assert_eq!(to_f32(from_f32(p)).to_bits(), p.to_bits());
            let (hp, hq) = (f32_to_f16(p), f32_to_f16(q));
            if f16_to_f32(hp) < f16_to_f32(hq) {
                prop_assert!(p < q);
                prop_assert!(from_f16_bits(hp) < from_f16_bits(hq));
            }
        }
    }
}
