"""Write the leaderboard as text and data."""
