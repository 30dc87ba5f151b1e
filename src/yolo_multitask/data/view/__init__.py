"""Looking at labels: contact sheets and one page with filters."""
