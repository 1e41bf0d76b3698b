"""What the browser shows: forms from Config, panels, and the body of each page. The only streamlit below `pages/`."""
