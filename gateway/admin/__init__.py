"""The admin pages: `/live`, `/ready`, `/services`, `/metrics`, in a process of their own."""
