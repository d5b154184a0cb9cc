"""The admin pages: `/live`, `/ready`, `/metrics`, in a process of their own."""
