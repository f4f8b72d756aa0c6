"""What a Python runs that is given the archive of the agent."""

from devices.agent.main import main

if __name__ == "__main__":
    main()
