"""Work for operators: backups, the demo, start-up checks, the doctor."""
