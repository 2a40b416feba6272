//! Dates as the vendor prints them, in UTC.

/// `Thu Nov 19 2015 16:31:09` of a moment in seconds since 1970.
pub fn date(unix_secs: u64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (unix_secs / 86400, unix_secs % 86400);
    // Days are counted from 1 March of year 0, so that the leap day ends a year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + u64::from(month < 2);
    format!(
        "{} {} {day} {year} {:02}:{:02}:{:02}",
        WEEKDAYS[(days % 7) as usize],
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date(0), "Thu Jan 1 1970 00:00:00");
        assert_eq!(date(1_447_950_669), "Thu Nov 19 2015 16:31:09");
        assert_eq!(date(951_782_400), "Tue Feb 29 2000 00:00:00");
        assert_eq!(date(1_709_251_199), "Thu Feb 29 2024 23:59:59");
        assert_eq!(date(1_709_251_200), "Fri Mar 1 2024 00:00:00");
    }
}
