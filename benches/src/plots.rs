//! Figures as pictures, in SVG.

use plotters::prelude::*;

/// Points of one name.
#[derive(Clone, Debug)]
pub struct Series {
    /// Stands in the legend. What comes before the first `/` is the implementation, which decides about the colour.
    pub name: String,
    /// In order of x.
    pub points: Vec<(f64, f64)>,
    /// The quartiles at an x, where they are known.
    pub whiskers: Vec<(f64, [f64; 2])>,
}

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Stands beside it. What comes before the first `/` is the implementation, which decides about the colour.
    pub name: String,
    /// How long it is.
    pub value: f64,
    /// The quartiles.
    pub whisker: [f64; 2],
    /// Stands at its end.
    pub label: String,
}

/// How an axis is labelled.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Below it, or beside it.
    pub title: &'static str,
    /// What stands at a tick.
    pub tick: fn(f64) -> String,
    /// Where the ticks are; at powers of ten where none is named.
    pub ticks: &'static [f64],
}

const SIZE: (u32, u32) = (920, 460);
const FONT: &str = "sans-serif";
/// A curve of so few points was measured at each of them, and nowhere between.
const MARKED: usize = 8;

/// Lines over two logarithmic axes, with a whisker from quartile to quartile where they are known.
///
/// # Panics
/// When there is nothing to show.
#[must_use]
pub fn lines(x: Axis, y: Axis, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|series| &series.points);
    let span = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        assert!(low > 0.0 && low <= high, "{}: nothing to show", y.title);
        low..high
    };
    let xs = span(&mut points().map(|point| point.0));
    // A quartile that is not above zero has no place on a logarithmic axis.
    let whiskers = |series: &'_ Series| {
        let whiskers = series.whiskers.clone().into_iter();
        whiskers.filter(|(_, [low, _])| *low > 0.0)
    };
    let quartiles = series
        .iter()
        .flat_map(whiskers)
        .flat_map(|(_, quartiles)| quartiles);
    let ys = span(&mut points().map(|point| point.1).chain(quartiles));
    let ys = ys.start / 1.3..ys.end * 1.3;
    let ticks: Vec<_> = match x.ticks {
        [] => powers_of_ten(&xs),
        ticks => ticks
            .iter()
            .copied()
            .filter(|tick| xs.contains(tick) || *tick == xs.end)
            .collect(),
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let (area, legend) = area.split_horizontally(SIZE.0 - 260);
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(50)
            .y_label_area_size(85)
            .build_cartesian_2d(xs.log_scale().with_key_points(ticks), ys.log_scale())
            .expect("SVG takes everything");
        chart
            .configure_mesh()
            .x_desc(x.title)
            .y_desc(y.title)
            .x_label_formatter(&|value| (x.tick)(*value))
            .y_label_formatter(&|value| (y.tick)(*value))
            .label_style((FONT, 15))
            .axis_desc_style((FONT, 16))
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(225, 225, 225))
            .draw()
            .expect("SVG takes everything");
        for (nth, series) in series.iter().enumerate() {
            let style = style(&series.name);
            let points = || series.points.iter().copied();
            chart
                .draw_series(LineSeries::new(points(), style))
                .expect("SVG takes everything");
            if series.points.len() <= MARKED {
                let marks = points().map(|point| Circle::new(point, 3, style.filled()));
                chart.draw_series(marks).expect("SVG takes everything");
            }
            for (x, [low, high]) in whiskers(series) {
                let thin = style.stroke_width(1);
                let whisker = PathElement::new([(x, low), (x, high)], thin);
                chart.draw_series([whisker]).expect("SVG takes everything");
            }
            let at = 30 + 20 * i32::try_from(nth).unwrap_or(0);
            let line = PathElement::new([(8, at), (30, at)], style);
            legend.draw(&line).expect("SVG takes everything");
            let name = Text::new(series.name.replace('_', " "), (38, at - 8), (FONT, 15));
            legend.draw(&name).expect("SVG takes everything");
        }
    }
    svg
}

fn powers_of_ten(span: &std::ops::Range<f64>) -> Vec<f64> {
    let powers = (-3..16).map(|power| 10_f64.powi(power));
    powers.filter(|power| span.contains(power)).collect()
}

/// Horizontal bars from zero, with a whisker from quartile to quartile, and a gap between groups of them.
#[must_use]
pub fn bars(groups: &[Vec<Bar>]) -> String {
    const BAR: i32 = 18;
    const ROW: i32 = 26;
    const GAP: i32 = 12;
    const NAMES: i32 = 300;
    const ROOM_FOR_LABELS: f64 = 220.0;
    let bars = groups.iter().flatten();
    let ends = bars.clone().map(|bar| bar.value.max(bar.whisker[1]));
    let longest = ends.fold(0.0, f64::max);
    let full = f64::from(SIZE.0) - f64::from(NAMES) - ROOM_FOR_LABELS;
    #[allow(clippy::cast_possible_truncation)] // pixels
    let at = |value: f64| NAMES + (full * value.max(0.0) / longest).round() as i32;
    let of = |count: usize, height: i32| height * i32::try_from(count).unwrap_or(0);
    let height = of(bars.count(), ROW) + of(groups.len(), GAP);
    let mut svg = String::new();
    {
        let size = (SIZE.0, height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let mut top = GAP / 2;
        for group in groups {
            for bar in group {
                let [low, high] = bar.whisker.map(at);
                let end = at(bar.value);
                let style = style(&bar.name).filled();
                let shape = Rectangle::new([(NAMES, top), (end, top + BAR)], style);
                area.draw(&shape).expect("SVG takes everything");
                if low < high {
                    let (middle, cap) = (top + BAR / 2, BAR / 4);
                    for line in [
                        [(low, middle), (high, middle)],
                        [(low, middle - cap), (low, middle + cap)],
                        [(high, middle - cap), (high, middle + cap)],
                    ] {
                        let line = PathElement::new(line, BLACK.stroke_width(1));
                        area.draw(&line).expect("SVG takes everything");
                    }
                }
                let name = bar.name.replace('_', " ").replacen('/', ": ", 1);
                for (text, x) in [(name, 10), (bar.label.clone(), end.max(high) + 6)] {
                    let text = Text::new(text, (x, top + 2), (FONT, 15));
                    area.draw(&text).expect("SVG takes everything");
                }
                top += ROW;
            }
            top += GAP;
        }
    }
    svg
}

/// The same implementation looks the same everywhere; ours is the one that stands out.
fn style(name: &str) -> ShapeStyle {
    let implementation = name.split('/').next().unwrap_or(name);
    let (colour, width) = match implementation {
        "engine" => (RGBColor(200, 30, 40), 3),
        "engine beside 100 stalled" => (RGBColor(240, 150, 150), 3),
        "rtrb beside 100 stalled" => (RGBColor(150, 195, 230), 2),
        "crossbeam_channel beside 100 stalled" => (RGBColor(255, 200, 140), 2),
        "flume beside 100 stalled" => (RGBColor(205, 185, 225), 2),
        "tokio_broadcast beside 100 stalled" => (RGBColor(150, 210, 160), 2),
        "async_broadcast beside 100 stalled" => (RGBColor(150, 220, 230), 2),
        "floor" => (RGBColor(60, 60, 60), 2),
        "rtrb" => (RGBColor(31, 119, 180), 2),
        "crossbeam_channel" => (RGBColor(255, 127, 14), 2),
        "flume" => (RGBColor(148, 103, 189), 2),
        "tokio_broadcast" => (RGBColor(44, 140, 60), 2),
        "tokio_watch" => (RGBColor(140, 190, 120), 2),
        "async_broadcast" => (RGBColor(23, 170, 190), 2),
        "bus" => (RGBColor(160, 110, 60), 2),
        "naive_tonic" => (RGBColor(31, 119, 180), 2),
        "naive_tonic beside 100 stalled" => (RGBColor(150, 195, 230), 2),
        "go" => (RGBColor(44, 140, 60), 2),
        "go beside 100 stalled" => (RGBColor(150, 210, 160), 2),
        _ => (RGBColor(127, 127, 127), 2),
    };
    colour.stroke_width(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(whisker: [f64; 2]) -> Bar {
        Bar {
            name: "engine/1".to_owned(),
            value: 10.0,
            whisker,
            label: "10.0 ns ±20 %".to_owned(),
        }
    }

    #[test]
    fn a_bar_shows_its_spread_as_a_whisker_and_in_words() {
        let svg = bars(&[vec![bar([8.0, 12.0])]]);
        assert!(svg.contains("10.0 ns ±20 %"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 3, "{svg}");
        // Counted once.
        let svg = bars(&[vec![bar([10.0, 10.0])]]);
        assert_eq!(svg.matches("<polyline").count(), 0, "{svg}");
    }

    #[test]
    fn a_line_shows_the_quartiles_that_its_axis_has_a_place_for() {
        let axis = Axis {
            title: "",
            tick: |value| value.to_string(),
            ticks: &[],
        };
        let strokes = |whiskers: &[(f64, [f64; 2])]| {
            let series = Series {
                name: "engine".to_owned(),
                points: vec![(1.0, 10.0), (8.0, 20.0)],
                whiskers: whiskers.to_vec(),
            };
            lines(axis, axis, &[series]).matches("<polyline").count()
        };
        let none = strokes(&[]);
        assert_eq!(strokes(&[(1.0, [9.0, 12.0])]), none + 1);
        assert_eq!(strokes(&[(1.0, [-9.0, 12.0])]), none);
    }
}
