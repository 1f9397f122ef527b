//! Grey from RGB and the reverse.

use super::picture::Picture;

/// How bright red, green and blue look (ITU-R BT.709).
const LUMINANCE: [f32; 3] = [0.2126, 0.7152, 0.0722];

/// Gives a picture 1 channel or 3.
pub(super) fn convert(picture: &Picture, channels: usize) -> Picture {
    let pixels = match (picture.channels, channels) {
        (3, 1) => {
            let plane = picture.width * picture.height;
            let (red, rest) = picture.pixels.split_at(plane);
            let (green, blue) = rest.split_at(plane);
            let colours = red.iter().zip(green).zip(blue);
            let grey = |((red, green), blue): ((&f32, &f32), &f32)| {
                LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue
            };
            colours.map(grey).collect()
        }
        (1, 3) => picture.pixels.repeat(3),
        _ => return picture.clone(),
    };
    Picture {
        channels,
        pixels,
        ..*picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_has_the_brightness_of_its_colours() {
        let colours = vec![1.0, 0.5, 0.0, 0.5, 0.0, 0.5];
        let picture = Picture::new(2, 1, 3, colours).expect("two pixels");
        let grey = convert(&picture, 1);
        assert!((grey.pixels[0] - 0.2126).abs() < 1e-6 && (grey.pixels[1] - 0.5).abs() < 1e-6);
        let back = convert(&grey, 3);
        assert_eq!((back.channels, &back.pixels[..2]), (3, &grey.pixels[..]));
        assert_eq!(convert(&back, 3), back);
    }
}
