//! The terminal: taken for as long as [`Screen`] lives, and given back as it was, whatever happens.

use std::io::{self, Stdout};

use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

/// The terminal in raw mode, on its other screen. A panic gives it back before it is told of.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    pub fn open() -> io::Result<Screen> {
        let terminal = ratatui::try_init().inspect_err(|_| give_back())?;
        Ok(Screen { terminal })
    }

    /// Paints what differs from before.
    pub fn draw(&mut self, paint: impl FnOnce(&mut Frame)) -> io::Result<()> {
        self.terminal.draw(paint).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
        give_back();
    }
}

fn give_back() {
    // A terminal that is gone cannot be given back.
    let _ = ratatui::try_restore();
}
